"""Our own commands as jobs: on Slurm, or as background processes, through submitit.

A job is a command line. It runs in the job's own process, so that the signals a cluster sends before it takes a node
away reach submitit, which requeues it. A training that is run again goes on by itself, whoever requeued it.
"""

import logging
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import submitit

from unetpipe.config import SubmitConfig
from unetpipe.dataset.folds import choose_folds
from unetpipe.documents import Record
from unetpipe.errors import ClusterError
from unetpipe.progress import Progress, SilentProgress

log = logging.getLogger(__name__)

Command = tuple[str, ...]

_POLL_S = 1.0
_PICKLE_LAG_S = 15.0  # network file systems show a finished job's result late
_LAST_LINES = 20
_EXIT_CODE = re.compile(r"ended with exit code (\d+)")


class SubmittedJob(Record):
    """One job.

    Attributes:
        id: Slurm's job id, or the process id of a local job.
        commands: What it runs, one after the other.
        log: What it prints.
        exit_code: None while it is not known.
    """

    id: str
    commands: tuple[str, ...]
    log: Path
    exit_code: int | None = None


class SubmitResult(Record):
    """What was submitted, and how it ended if that was waited for."""

    cluster: Literal["slurm", "local"]
    jobs: tuple[SubmittedJob, ...]

    @property
    def exit_code(self) -> int:
        """Of the first job that failed; 0 if none did, or none was waited for."""
        return next((job.exit_code for job in self.jobs if job.exit_code), 0)


@dataclass(frozen=True)
class CommandJob:
    """What submitit pickles and calls on a node."""

    commands: tuple[Command, ...]

    def __call__(self) -> None:
        """Run the commands one after the other, as `python -m unetpipe` would.

        Raises:
            ClusterError: If one ends with another exit code than 0, so that the cluster sees the job fail.
        """
        for command in self.commands:
            code = _run(command)
            if code != 0:
                raise ClusterError(f"`unetpipe {shlex.join(command)}` ended with exit code {code}")

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit resubmits when the node is taken away or the time is up; it looks for this very name."""
        return submitit.helpers.DelayedSubmission(self)


def submit(
    config: SubmitConfig, commands: Sequence[Command] | None = None, progress: Progress | None = None
) -> SubmitResult:
    """Submit commands and, if asked to, wait for them.

    Args:
        config: Where, with what resources.
        commands: One job each on Slurm, where they form an array; one after the other in a single local job. None
            takes the config's own command, which then is not split into folds.
        progress: Told of jobs that end, and of the last lines of those that fail.

    Raises:
        ClusterError: If Slurm was asked for and does not answer, or refuses the job, or folds were asked for and
            `commands` does not name them.
    """
    progress = progress or SilentProgress()
    if commands is None and config.folds is not None:
        raise ClusterError("folds need a command each: give commands=one_per_fold(command, folds, count)")
    commands = tuple(commands or (config.command,))
    cluster = _choose(config.cluster)
    groups = [(command,) for command in commands] if cluster == "slurm" else [commands]
    executor = _executor(config, cluster)
    try:
        with executor.batch():
            jobs = [executor.submit(CommandJob(group)) for group in groups]
    except (submitit.core.utils.FailedSubmissionError, submitit.core.utils.FailedJobError) as error:
        raise ClusterError(f"Slurm refused the job: {' '.join(str(error).split())}") from error
    submitted = [
        SubmittedJob(id=job.job_id, commands=tuple(map(shlex.join, group)), log=job.paths.stdout)
        for job, group in zip(jobs, groups, strict=True)
    ]
    if config.wait:
        submitted = _wait(jobs, submitted, cluster, progress)
    return SubmitResult(cluster=cluster, jobs=tuple(submitted))


def one_per_fold(command: Command, folds: str, count: int) -> tuple[Command, ...]:
    """A training command for each fold.

    Args:
        command: `train` with its options but `--fold`.
        folds: ``all``, or numbers such as ``0,2``.
        count: Folds that there are.

    Raises:
        ClusterError: If the command is another, or says itself which folds.
        TrainingError: If a fold is not a number, or not there.
    """
    if command[0] != "train" or {"--fold", "--folds"} & set(command):
        raise ClusterError(f"--folds goes with a train command without --fold, got: {shlex.join(command)}")
    return tuple((*command, "--fold", str(number)) for number in choose_folds(folds, count))


def _choose(wanted: str) -> Literal["slurm", "local"]:
    if wanted == "local":
        return "local"
    if shutil.which("sinfo") and shutil.which("sbatch"):
        answer = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, timeout=60, check=False)
        if answer.returncode == 0:
            return "slurm"
        reason = " ".join(answer.stderr.split()) or "sinfo fails"
    else:
        reason = "sinfo and sbatch are not on the PATH"
    if wanted == "slurm":
        raise ClusterError(f"Slurm does not answer: {reason}")
    return "local"


def _executor(config: SubmitConfig, cluster: str) -> submitit.AutoExecutor:
    executor = submitit.AutoExecutor(folder=config.logs.absolute(), cluster=cluster)
    executor.update_parameters(
        name=f"unetpipe-{config.command[0]}",
        timeout_min=config.minutes,
        gpus_per_node=config.gpus,
        cpus_per_task=config.cpus,
        stderr_to_stdout=True,
        **({"mem_gb": config.memory_gb} if config.memory_gb else {}),
    )
    if cluster == "slurm":
        executor.update_parameters(
            slurm_setup=[f"export PATH={shlex.quote(os.environ.get('PATH', ''))}"],
            slurm_additional_parameters={**config.sbatch, "requeue": True},
            **({"slurm_partition": config.partition} if config.partition else {}),
        )
    return executor


def _run(command: Command) -> int:
    """Run `python -m unetpipe` in this process and give its exit code."""
    before = sys.argv
    sys.argv = ["unetpipe", *command]
    try:
        runpy.run_module("unetpipe", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int) and end.code < 0:  # submitit's own exit after it has requeued the job
            raise
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    return 0


def _wait(
    jobs: Sequence[submitit.Job[Any]], submitted: Sequence[SubmittedJob], cluster: str, progress: Progress
) -> list[SubmittedJob]:
    log.info("waiting for %s", ", ".join(job.id for job in submitted))
    codes: dict[str, int] = {}
    with progress.task("jobs", len(jobs)) as advance:
        while len(codes) < len(jobs):
            for job, description in zip(jobs, submitted, strict=True):
                if description.id in codes or not _has_ended(job, cluster):
                    continue
                codes[description.id] = code = _exit_code(job)
                if code != 0:
                    log.error("job %s failed with exit code %d; the end of %s:", description.id, code, description.log)
                    log.error(_last_lines(description.log))
                advance(note=description.id)
            time.sleep(_POLL_S)
    return [job.model_copy(update={"exit_code": codes[job.id]}) for job in submitted]


def _has_ended(job: submitit.Job[Any], cluster: str) -> bool:
    """Whether a job is over. Asks squeue, which needs no accounting database as submitit's sacct does."""
    if job.paths.result_pickle.exists():
        return True
    if cluster == "local":
        return bool(job.done())
    answer = subprocess.run(["squeue", "--noheader", "--jobs", job.job_id], capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        return not answer.stdout.strip()
    return "Invalid job id" in answer.stderr  # long gone; other errors are the controller's, who may come back


def _exit_code(job: submitit.Job[Any]) -> int:
    deadline = time.monotonic() + _PICKLE_LAG_S
    while not job.paths.result_pickle.exists():
        if time.monotonic() > deadline:
            return 1  # killed, cancelled or out of memory
        time.sleep(_POLL_S)
    outcome, trace = submitit.core.utils.pickle_load(job.paths.result_pickle)
    if outcome == "success":
        return 0
    found = _EXIT_CODE.search(trace)
    return int(found.group(1)) if found else 1


def _last_lines(log: Path) -> str:
    """What the command itself said last, without submitit's traceback about its exit code."""
    if not log.is_file():
        return f"(it wrote no {log.name})"
    own, _, trace = log.read_text(encoding="utf-8", errors="replace").partition("submitit ERROR")
    text = own if _EXIT_CODE.search(trace) else own + trace
    return "\n".join(text.splitlines()[-_LAST_LINES:])
