"""The text of a job's batch script. `cluster/slurm.py` submits it.

Slurm sends a signal before it stops a job: SIGTERM or the signal of ``--signal`` when the job is preempted, and the
signal of ``--signal`` before its time limit. A training then saves and ends with exit code 130. The script asks Slurm
to start the job again if Slurm reports that the job was preempted or that its time is nearly over. A job that a person
cancels is never started again: Slurm ends the script before its command can end, and the job's state is no longer
RUNNING.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from unetpipe.cluster.jobs import Job, environment_words, split_options
from unetpipe.errors import ClusterError
from unetpipe.interpreter import module_words

_WARNING_S = 120  # from the warning to the time limit; for jobs of less than 16 minutes, an eighth of their time
_EARLY_S = 60  # by which Slurm may send its warning earlier
_OWN_OPTIONS = {
    **dict.fromkeys(("array", "output", "error", "open-mode", "signal", "requeue", "no-requeue"), "unetpipe itself"),
    **dict.fromkeys(("dependency", "kill-on-invalid-dep", "job-name", "chdir"), "unetpipe itself"),
    **dict.fromkeys(("ntasks", "ntasks-per-node", "ntasks-per-gpu"), "--nodes and --gpus"),
    **{"nodes": "--nodes", "partition": "--partition", "time": "--minutes", "mem": "--memory-gb"},
    **{"cpus-per-task": "--cpus", "gpus-per-node": "--gpus", "gpus": "--gpus"},
}


def program_words(program: str | None) -> tuple[str, ...]:
    """Return the words that call unetpipe on a node: those of the option `program`, or this interpreter's."""
    return tuple(shlex.split(program)) if program else (sys.executable, *module_words("unetpipe"))


def batch_script(job: Job, folder: Path, where: Path) -> str:
    """Return the batch script of a job.

    Args:
        job: Job that the script runs.
        folder: Absolute path of the submission's folder, for ``TASK.log`` and ``TASK.exit`` of each task.
        where: Absolute path of the folder that the job runs in.

    Raises:
        ClusterError: If the further options of sbatch contain one that unetpipe sets itself.
    """
    lines = ["#!/bin/bash", *(_directive(name, value) for name, value in _options(job, folder, where).items()), ""]
    return "\n".join(lines) + _body(job, folder)


def _options(job: Job, folder: Path, where: Path) -> dict[str, str | None]:
    resources = job.resources
    for name in resources.sbatch:
        if name in _OWN_OPTIONS:
            raise ClusterError(f"--sbatch {name}=... is not taken: {_OWN_OPTIONS[name]} sets it")
    options: dict[str, str | None] = {
        "job-name": f"unetpipe-{job.name}",
        "chdir": str(where),
        "output": str(folder / job.name).replace("%", "%%") + f"{'_%a' if job.array else ''}.log",
        "open-mode": "append",
        "nodes": str(resources.nodes),
        "ntasks-per-node": str(job.processes),
        "cpus-per-task": str(resources.cpus),
        "gpus-per-node": str(resources.gpus),
        "time": str(resources.minutes),
        "requeue": None,
    }
    if job.array:
        options["array"] = ",".join(map(str, job.array.tasks))
    if job.resumes:
        options["signal"] = f"USR2@{_warning_s(job)}"
    if resources.memory_gb:
        options["mem"] = f"{round(resources.memory_gb * 1024)}M"
    if resources.partition:
        options["partition"] = resources.partition
    return options | resources.sbatch


def _directive(name: str, value: str | None) -> str:
    return f"#SBATCH --{name}" if value is None else f"#SBATCH --{name}={shlex.quote(value)}"


def _body(job: Job, folder: Path) -> str:
    log = shlex.quote(str(folder / job.name)) + ('_"$SLURM_ARRAY_TASK_ID"' if job.array else "")
    # the last task of an array has the array's own job id, which means all of its tasks to scontrol
    own = '"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"' if job.array else '"$SLURM_JOB_ID"'
    return f"""
rm -f {log}.exit
{_command(job)}
code=$?

stopped_by_slurm() {{
  local job
  job=$(SLURM_TIME_FORMAT=standard scontrol show job --oneliner {own}) || return
  [[ $job == *" JobState=RUNNING "* ]] || return # a person has cancelled it
  [[ $job == *" PreemptTime=None "* ]] || return 0
{_limit_check(job)}}}

if ((code >= 128 && ${{SLURM_RESTART_COUNT:-0}} < {job.resources.requeues})) && stopped_by_slurm; then
  scontrol requeue {own} && exit
fi
echo $code >{log}.exit
exit $code
"""


def _limit_check(job: Job) -> str:
    if not job.resumes:
        return "  return 1 # started again, it would meet its time limit again\n"
    return (
        "  local limit=${job#* EndTime=}\n"
        '  limit=$(date -d "${limit%% *}" +%s) || return\n'
        f"  ((limit - $(date +%s) <= {_warning_s(job) + _EARLY_S}))\n"
    )


def _command(job: Job) -> str:
    # since Slurm 22.05 srun ignores the cores of the job, and by default it lets ranks wait for one that has failed
    srun = ["srun", "--kill-on-bad-exit=1", f"--cpus-per-task={job.resources.cpus}"]
    srun += [f"--{name}={value}" for name, value in job.resources.srun.items()]
    options, rest = split_options(job.command)
    words = [*srun, *environment_words(job.environment), *program_words(job.resources.program), *options]
    task = [job.array.option, f'"{job.array.value("$SLURM_ARRAY_TASK_ID")}"'] if job.array else []
    return " ".join([*map(shlex.quote, words), *task, *map(shlex.quote, rest)])


def _warning_s(job: Job) -> int:
    return min(_WARNING_S, job.resources.minutes * 60 // 8)


def sbatch_command(job: Job, script: Path, ids: Mapping[str, str]) -> Sequence[str]:
    """Return the call of sbatch that submits the script of a job.

    Args:
        job: Job that the script runs.
        script: Path of the script.
        ids: Slurm's id of each job that has been submitted before, by its name.
    """
    words = ["sbatch", "--parsable"]
    if job.after:
        kind = "afterany" if job.after_failure else "afterok"
        words += [f"--dependency={kind}:{':'.join(ids[name] for name in job.after)}", "--kill-on-invalid-dep=yes"]
    return (*words, str(script))
