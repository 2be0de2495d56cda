"""The state of each task of a submission, in Slurm's words, and its exit code."""

from pathlib import Path

from unetpipe.documents import Record

UNKNOWN = "unknown"

# the states of Slurm in which a task has not ended, and may still run or run on
_ACTIVE = {
    *("pending", "running", "suspended", "completing", "configuring", "requeued", "requeue_hold", "resizing"),
    *("signaling", "special_exit", "stage_out", "stopped", UNKNOWN),
}


class TaskState(Record):
    """The state of one task.

    Attributes:
        task: Name of the task; its output is kept in ``TASK.log``.
        id: Slurm's id of the task, such as ``417_3``, or the id of the local process that runs it.
        state: State of the task: one of Slurm's job states in lower case, or `UNKNOWN`.
        reason: Slurm's reason why the task waits or did not run; empty if Slurm gives none.
        exit_code: Exit code of a task that has ended, 1 if it ended without writing one; None while it has not ended.
    """

    task: str
    id: str
    state: str
    reason: str = ""
    exit_code: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the task has ended, and will not be started again by Slurm."""
        return self.state not in _ACTIVE


def task_state(folder: Path, task: str, identity: str, state: str, reason: str = "") -> TaskState:
    """Describe a task, and read its exit code if it has ended.

    Args:
        folder: Folder of the submission.
        task: Name of the task.
        identity: Id of the task.
        state: State of the task in lower case.
        reason: Reason for the state.
    """
    found = TaskState(task=task, id=identity, state=state, reason=reason)
    if not found.has_ended:
        return found
    code = 0 if state == "completed" else exit_code(folder, task) or 1
    return found.model_copy(update={"exit_code": code})


def exit_code(folder: Path, task: str) -> int | None:
    """Read the exit code that a task's script writes as its last act; None if the script has not reached its end."""
    path = folder / f"{task}.exit"
    text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    return int(text) if text.isdecimal() else None
