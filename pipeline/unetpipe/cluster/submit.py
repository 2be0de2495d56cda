"""Submit jobs to Slurm or to this machine, and wait for them if that is wanted."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from unetpipe.cluster import local, slurm
from unetpipe.cluster.batch_script import batch_script, sbatch_command
from unetpipe.cluster.config import SubmitConfig
from unetpipe.cluster.jobs import Job
from unetpipe.cluster.local_script import local_script
from unetpipe.cluster.parent_run import end_parent_run, with_parent_run
from unetpipe.cluster.states import TaskState
from unetpipe.cluster.submission import ClusterName, Submission, make_folder, new_submission
from unetpipe.documents import Record
from unetpipe.errors import ClusterError
from unetpipe.progress import Progress, SilentProgress

log = logging.getLogger(__name__)

_POLL_S = 1.0
_LAST_LINES = 20


class SubmittedTask(Record):
    """One task of a submission.

    Attributes:
        task: Name of the task.
        id: Slurm's id of the task, or the id of the local process that runs all tasks.
        log: File that receives the output of the task.
        exit_code: Exit code of the task; None if it was not waited for.
    """

    task: str
    id: str
    log: Path
    exit_code: int | None = None


class SubmitResult(Record):
    """A submission, and how its tasks ended if they were waited for.

    Attributes:
        cluster: Slurm, or this machine.
        number: Number of the submission, as `submit status`, `logs`, `cancel` and `retry` take it.
        tasks: Every task, in the order of the jobs.
    """

    cluster: ClusterName
    number: int
    tasks: tuple[SubmittedTask, ...]

    @property
    def exit_code(self) -> int:
        """The exit code of the first task that failed; 0 if none failed, or none was waited for."""
        return next((task.exit_code for task in self.tasks if task.exit_code), 0)


class Scripts(Record):
    """The result of a dry run.

    Attributes:
        scripts: The scripts that would be submitted, one after the other.
    """

    scripts: str


def submit_jobs(
    config: SubmitConfig, jobs: Sequence[Job], progress: Progress | None = None, where: Path | None = None
) -> SubmitResult | Scripts:
    """Submit jobs and, with `config.wait`, wait for them.

    Args:
        config: Options of `submit`.
        jobs: Jobs in an order in which each stands after those that it depends on.
        progress: Shows the jobs that end, if they are waited for.
        where: Folder that the jobs run in; the current one if it is None.

    Returns:
        The scripts alone for a dry run, otherwise the submission.

    Raises:
        ClusterError: If Slurm does not answer or refuses a job.
    """
    cluster = _choose(config)
    submission = new_submission(cluster, tuple(jobs), where)
    if config.dry_run:
        return _scripts(submission, config.logs.absolute())
    folder = make_folder(config.logs)
    submission = with_parent_run(submission, f"submission {folder.name}")
    try:
        submission = module_of(cluster).submit_jobs(submission, folder)
    except ClusterError:
        end_parent_run(submission, folder, ())
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()
        raise
    if config.wait:
        states = _wait(submission, folder, progress or SilentProgress())
        end_parent_run(submission, folder, states)
    else:
        states = job_states(submission, folder)
    tasks = tuple(
        SubmittedTask(
            task=one.task, id=one.id, log=folder / f"{one.task}.log", exit_code=one.exit_code if config.wait else None
        )
        for one in states
    )
    return SubmitResult(cluster=cluster, number=int(folder.name), tasks=tasks)


def module_of(cluster: ClusterName) -> ModuleType:
    """Return the module that submits to a cluster, reports the state of its tasks and cancels them."""
    return slurm if cluster == "slurm" else local


def job_states(submission: Submission, folder: Path) -> list[TaskState]:
    """Return the state of every task of a submission, in the order of its jobs."""
    states: list[TaskState] = module_of(submission.cluster).job_states(submission, folder)
    return states


def last_lines(folder: Path, task: str) -> str:
    """Return the last lines of a task's output."""
    path = folder / f"{task}.log"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return "\n".join(lines[-_LAST_LINES:]) or "(it has printed nothing)"


def _choose(config: SubmitConfig) -> ClusterName:
    """Choose between Slurm and this machine.

    A login node must not start to train because Slurm's controller is down for a minute: where Slurm is installed,
    `auto` does not fall back to this machine.

    Raises:
        ClusterError: If Slurm is wanted or installed, and does not answer.
    """
    if config.cluster == "local" or (config.cluster == "auto" and not slurm.is_installed()):
        return "local"
    if not config.dry_run:
        try:
            slurm.require_answer()
        except ClusterError as error:
            hint = "; --cluster local runs the command on this machine" if config.cluster == "auto" else ""
            raise ClusterError(f"{error}{hint}") from None
    return "slurm"


def _scripts(submission: Submission, folder: Path) -> Scripts:
    if submission.cluster == "local":
        return Scripts(scripts=local_script(submission.jobs, folder / "NUMBER", submission.where))
    texts = []
    for job in submission.jobs:
        words = sbatch_command(job, folder / "NUMBER" / f"{job.name}.sh", {name: f"${name}" for name in job.after})
        texts.append(f"# {job.name}=$({' '.join(words)})\n{batch_script(job, folder / 'NUMBER', submission.where)}")
    return Scripts(scripts="\n".join(texts))


def _wait(submission: Submission, folder: Path, progress: Progress) -> list[TaskState]:
    log.info("waiting for submission %s", folder.name)
    ended: set[str] = set()
    states = job_states(submission, folder)
    with progress.task("jobs", len(states)) as advance:
        while True:
            for one in states:
                if not one.has_ended or one.task in ended:
                    continue
                ended.add(one.task)
                if one.exit_code != 0:
                    log.error("%s has %s with exit code %s; the end of its output:", one.task, one.state, one.exit_code)
                    log.error(last_lines(folder, one.task))
                advance(note=one.task)
            if len(ended) == len(states):
                return states
            time.sleep(_POLL_S)
            states = job_states(submission, folder)
