"""Jobs on this machine: one background process runs all jobs of a submission, one after the other."""

import os
import signal
import subprocess
from pathlib import Path

import psutil

from unetpipe.cluster.local_script import local_script
from unetpipe.cluster.states import TaskState, exit_code, task_state
from unetpipe.cluster.submission import Submission, write_submission
from unetpipe.errors import ClusterError
from unetpipe.files import write_text

_SCRIPT = "jobs.sh"
_WHEN_ON_RECORD = 'read -r && exec bash "$0" </dev/null'


def submit_jobs(submission: Submission, folder: Path) -> Submission:
    """Start the background process, which outlives this one, and write the record of the submission.

    Args:
        submission: Submission without ids.
        folder: Folder of the submission.

    Returns:
        The submission with the id of the process.

    Raises:
        ClusterError: If a job is for several nodes.
    """
    if any(job.resources.nodes > 1 for job in submission.jobs):
        raise ClusterError("--nodes is Slurm's: a local job has this machine only")
    script = folder / _SCRIPT
    write_text(script, local_script(submission.jobs, folder, submission.where))
    with (folder / "jobs.log").open("ab") as log:
        words = ["bash", "-c", _WHEN_ON_RECORD, str(script)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
    started = psutil.Process(process.pid).create_time()
    ids = dict.fromkeys((job.name for job in submission.jobs), str(process.pid))
    submitted = submission.model_copy(update={"ids": ids, "process_started": started})
    write_submission(folder, submitted)
    assert process.stdin is not None
    with process.stdin as gate:  # if this process was killed before, no job runs that no record knows of
        gate.write(b"\n")
    return submitted


def job_states(submission: Submission, folder: Path) -> list[TaskState]:
    """Return the state of every task. A task without an exit code whose process has ended was skipped or killed."""
    runs = _is_running(submission)
    states = []
    for job in submission.jobs:
        for name in job.tasks:
            code = exit_code(folder, name)
            if code is not None:
                state = "failed" if code else "completed"
            elif runs:
                state = "running" if (folder / f"{name}.log").exists() else "pending"
            else:
                state = "cancelled"
            states.append(task_state(folder, name, submission.ids[job.name], state))
    return states


def cancel_jobs(submission: Submission) -> None:
    """Send SIGTERM to the process and its commands; a training saves before it ends."""
    if _is_running(submission):
        os.killpg(_process_id(submission), signal.SIGTERM)


def _process_id(submission: Submission) -> int:
    return int(next(iter(submission.ids.values())))


def _is_running(submission: Submission) -> bool:
    try:
        process = psutil.Process(_process_id(submission))
        return bool(process.create_time() == submission.process_started and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
