"""How far each task of a submission is."""

from pathlib import Path

from unetpipe.documents import Record

UNKNOWN = "unknown"

# of Slurm's states, those in which a task has not come to its end
_ACTIVE = {
    *("pending", "running", "suspended", "completing", "configuring", "requeued", "requeue_hold", "resizing"),
    *("signaling", "special_exit", "stage_out", "stopped", UNKNOWN),
}


class TaskState(Record):
    """How far one task is.

    Attributes:
        task: Its name, under which its output is kept.
        id: Slurm's, or the process's.
        state: In Slurm's words, in lower case.
        reason: Why it waits, or did not come to its end; empty where there is nothing to say.
        exit_code: Of a task that has ended; 1 where it was killed.
    """

    task: str
    id: str
    state: str
    reason: str = ""
    exit_code: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it will not go on by itself."""
        return self.state not in _ACTIVE


def task_state(folder: Path, task: str, identity: str, state: str, reason: str = "") -> TaskState:
    """Describe a task, with the exit code that its last attempt has left if the task has ended."""
    found = TaskState(task=task, id=identity, state=state, reason=reason)
    if not found.has_ended:
        return found
    code = 0 if state == "completed" else exit_code(folder, task) or 1
    return found.model_copy(update={"exit_code": code})


def exit_code(folder: Path, task: str) -> int | None:
    """What a task's script has written down at its end; None where it did not come to it."""
    path = folder / f"{task}.exit"
    text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    return int(text) if text.isdecimal() else None
