"""The text of the script that runs all jobs of a submission on this machine. `cluster/local.py` starts it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from unetpipe.cluster.batch_script import program_words
from unetpipe.cluster.jobs import Job, environment_words, with_options

_TRAP = "trap 'exit 143' TERM # after the command that runs, which gets the signal too and may save first"
_FUNCTIONS = """\
run() { # NAME WORD...: run a command, and keep its output and its exit code
  local name=$1
  shift
  "$@" >>"$name.log" 2>&1
  echo $? >"$name.exit"
}

succeeded() { # NAME...
  local name
  for name in "$@"; do
    [[ $(cat "$name.exit" 2>/dev/null) == 0 ]] || return
  done
}
"""


def local_script(jobs: Sequence[Job], folder: Path, where: Path) -> str:
    """Return a script that runs jobs in their order, and skips those that depend on a failed one.

    Args:
        jobs: Jobs in an order in which each stands after those that it depends on.
        folder: Absolute path of the submission's folder, for ``TASK.log`` and ``TASK.exit`` of each task.
        where: Absolute path of the folder that the jobs run in.
    """
    by_name = {job.name: job for job in jobs}
    lines = ["#!/bin/bash", _TRAP, f"cd {shlex.quote(str(where))} || exit", "", _FUNCTIONS]
    for job in jobs:
        before = [str(folder / task) for name in job.after for task in by_name[name].tasks]
        condition = f"succeeded {shlex.join(before)} && " if before and not job.after_failure else ""
        no_gpu = {} if job.resources.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        ranks = ["--gpus", str(job.processes)] if job.processes > 1 else []
        for name, number in job.tasks.items():
            command = [*program_words(job.resources.program), *with_options(job.command_of(number), *ranks)]
            words = [str(folder / name), *environment_words({**no_gpu, **job.environment}), *command]
            lines.append(f"{condition}run {shlex.join(words)}")
    return "\n".join(lines) + "\n"
