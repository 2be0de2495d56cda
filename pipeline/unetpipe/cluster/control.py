"""The state and output of submissions that were made before, and how to cancel and retry them."""

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from unetpipe.cluster.config import SubmissionConfig, SubmitConfig
from unetpipe.cluster.jobs import Job
from unetpipe.cluster.parent_run import end_parent_run
from unetpipe.cluster.states import TaskState
from unetpipe.cluster.submission import Submission, find_folder, read_submission
from unetpipe.cluster.submit import Scripts, SubmitResult, job_states, last_lines, module_of, submit_jobs
from unetpipe.documents import Record
from unetpipe.errors import ClusterError
from unetpipe.progress import Progress

log = logging.getLogger(__name__)


class SubmissionStatus(Record):
    """The state of a submission.

    Attributes:
        number: Number of the submission.
        submitted: Time of the submission, in UTC.
        tasks: State of every task, in the order of the jobs.
    """

    number: int
    submitted: datetime
    tasks: tuple[TaskState, ...]

    @property
    def failed(self) -> bool:
        """Whether any task has ended with an exit code other than 0."""
        return any(task.exit_code for task in self.tasks)


class SubmissionLogs(Record):
    """The output of a submission.

    Attributes:
        logs: Last lines of every task's output, below a line with its file.
    """

    logs: str


def show_status(config: SubmitConfig, which: SubmissionConfig) -> SubmissionStatus:
    """Return the state of a submission.

    Args:
        config: Options of `submit`; `logs` is the folder of all submissions.
        which: Number of the submission.

    Raises:
        ClusterError: If there is no such submission.
    """
    folder, submission = _find(config, which)
    tasks = tuple(job_states(submission, folder))
    end_parent_run(submission, folder, tasks)
    return SubmissionStatus(number=int(folder.name), submitted=submission.submitted, tasks=tasks)


def show_logs(config: SubmitConfig, which: SubmissionConfig) -> SubmissionLogs:
    """Return the last lines of every task that has printed something.

    Args:
        config: Options of `submit`; `logs` is the folder of all submissions.
        which: Number of the submission.

    Raises:
        ClusterError: If there is no such submission, or none of its tasks has printed anything.
    """
    folder, submission = _find(config, which)
    names = [name for job in submission.jobs for name in job.tasks if (folder / f"{name}.log").is_file()]
    if not names:
        raise ClusterError(f"no task of submission {folder.name} has printed anything yet")
    return SubmissionLogs(logs="\n".join(f"== {folder / name}.log\n{last_lines(folder, name)}\n" for name in names))


def cancel(config: SubmitConfig, which: SubmissionConfig) -> SubmissionStatus:
    """Cancel the tasks of a submission that have not ended, and return its state.

    Args:
        config: Options of `submit`; `logs` is the folder of all submissions.
        which: Number of the submission.

    Raises:
        ClusterError: If there is no such submission, or Slurm does not answer.
    """
    _, submission = _find(config, which)
    module_of(submission.cluster).cancel_jobs(submission)
    return show_status(config, which)


def retry(config: SubmitConfig, which: SubmissionConfig, progress: Progress) -> SubmitResult | Scripts:
    """Submit the tasks that failed or were cancelled again, and the jobs that depend on them.

    They run in the same folder, or in the current one where that is not there any more.

    Args:
        config: Options of `submit`; the cluster is that of the earlier submission.
        which: Number of the earlier submission.
        progress: Shows the jobs that end, if they are waited for.

    Raises:
        ClusterError: If there is no such submission, it has not ended, or none of its tasks has failed.
    """
    folder, submission = _find(config, which)
    states = job_states(submission, folder)
    if going := [state.task for state in states if not state.has_ended]:
        raise ClusterError(f"submission {folder.name} has not ended: {len(going)} tasks wait or run")
    jobs = failed_jobs(submission.jobs, states)
    if not jobs:
        raise ClusterError(f"nothing of submission {folder.name} has failed")
    given = config.model_copy(update={"cluster": submission.cluster})
    return submit_jobs(given, jobs, progress, submission.where if submission.where.is_dir() else None)


def failed_jobs(jobs: Sequence[Job], states: Sequence[TaskState]) -> list[Job]:
    """Return the jobs that must run again: those that failed, and all that depend on them.

    Of an array that failed only the failed tasks run again; a job that depends on a failed one runs again whole.

    Args:
        jobs: Jobs in an order in which each stands after those that it depends on.
        states: State of every task.
    """
    failed = {state.task for state in states if state.exit_code != 0}
    chosen: dict[str, Job] = {}
    for job in jobs:
        after = tuple(name for name in job.after if name in chosen)
        tasks = [number for name, number in job.tasks.items() if after or name in failed]
        if not tasks:
            continue
        array = job.array and job.array.model_copy(update={"tasks": tuple(tasks)})
        chosen[job.name] = job.model_copy(update={"after": after, "array": array})
    return list(chosen.values())


def _find(config: SubmitConfig, which: SubmissionConfig) -> tuple[Path, Submission]:
    folder = find_folder(config.logs, which.number)
    return folder, read_submission(folder)
