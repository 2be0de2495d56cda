"""What a job is: one command line, or an array of them that differ in one option."""

from unetpipe.cluster.config import Resources
from unetpipe.documents import Record

Command = tuple[str, ...]


class Array(Record):
    """The tasks of a job that differ in one option of its command.

    Attributes:
        option: Such as ``--fold``.
        tasks: Numbers of the tasks, which are Slurm's array indices.
        total: With it, a task's option is given ``I/N`` instead of its number alone.
    """

    option: str
    tasks: tuple[int, ...]
    total: int | None = None

    def value(self, task: int | str) -> str:
        """What a task's option is given; `task` may be the name of a shell variable that holds its number."""
        return str(task) if self.total is None else f"{task}/{self.total}"


class Job(Record):
    """One command line, or an array of them.

    Attributes:
        name: Unique within a submission.
        command: Of unetpipe, without the array's option.
        resources: What it is given.
        array: None for a single task.
        processes: On each node, started by Slurm, that carry out the command together.
        after: Names of the jobs that must have ended before it starts.
        after_failure: It also starts where those before it have failed.
        resumes: Started again, the command goes on where it was stopped, so that meeting the time limit is no failure.
    """

    name: str
    command: Command
    resources: Resources
    array: Array | None = None
    processes: int = 1
    after: tuple[str, ...] = ()
    after_failure: bool = False
    resumes: bool = False

    @property
    def tasks(self) -> dict[str, int | None]:
        """Number of each task by its name, under which its log is kept; None for the only one."""
        if self.array is None:
            return {self.name: None}
        return {f"{self.name}_{number}": number for number in self.array.tasks}

    def command_of(self, task: int | None) -> Command:
        """The command line of a task."""
        if self.array is None or task is None:
            return self.command
        return (*self.command, self.array.option, self.array.value(task))
