"""The tracking run of a submission, which the runs of its jobs are part of."""

from collections.abc import Sequence
from pathlib import Path

from unetpipe.cluster.states import TaskState
from unetpipe.cluster.submission import Submission, write_submission
from unetpipe.tracking.parent import SUBMISSION_VARIABLE, end_submission_run, start_submission_run
from unetpipe.tracking.tracker import Status


def with_parent_run(submission: Submission, name: str) -> Submission:
    """Start the run of a submission, and name it in the environment of its jobs.

    Jobs that are submitted again name the run of their first submission, which goes on. Where no job is tracked in
    MLflow, or the store does not answer, the submission stays as it is.

    Args:
        submission: Submission whose jobs have not been submitted yet.
        name: Name of the run.
    """
    work = _work(submission)
    if work is None:
        return submission
    known = next((job.environment[SUBMISSION_VARIABLE] for job in submission.jobs if job.environment), None)
    tasks = {job.name: len(job.tasks) for job in submission.jobs}
    run_id = known or start_submission_run(work, name, {"cluster": submission.cluster, "tasks": tasks})
    if run_id is None:
        return submission
    jobs = tuple(job.model_copy(update={"environment": {SUBMISSION_VARIABLE: run_id}}) for job in submission.jobs)
    return submission.model_copy(update={"jobs": jobs, "tracking_run": run_id})


def end_parent_run(submission: Submission, folder: Path, states: Sequence[TaskState]) -> None:
    """End the run of a submission once all of its tasks have ended, and note that it has.

    Args:
        submission: Submission as it is written down.
        folder: Folder of the submission.
        states: State of every task; none if the jobs could not be submitted.
    """
    work = _work(submission)
    if submission.tracking_run is None or work is None or not all(state.has_ended for state in states):
        return
    status: Status = "FINISHED" if states else "FAILED"
    if unsuccessful := [state for state in states if state.exit_code]:
        cancelled = all(state.state.startswith("cancelled") for state in unsuccessful)
        status = "KILLED" if cancelled else "FAILED"
    if end_submission_run(work, submission.tracking_run, status):
        write_submission(folder, submission.model_copy(update={"tracking_run": None}))


def _work(submission: Submission) -> Path | None:
    """Work folder of the tracked jobs."""
    return next((job.tracked_in for job in submission.jobs if job.tracked_in), None)
