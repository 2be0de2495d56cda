"""A job: one command line of unetpipe, or an array of command lines that differ in one option."""

from collections.abc import Mapping
from pathlib import Path

from unetpipe.cluster.config import Resources
from unetpipe.documents import Record

Command = tuple[str, ...]


class Array(Record):
    """The tasks of a job, which differ in the value of one option.

    Attributes:
        option: Option of the command, such as ``--fold``.
        tasks: Number of each task, which is its index in Slurm's array.
        total: Number N of parts that the option's value ``I/N`` names; None if the value is the task's number alone.
    """

    option: str
    tasks: tuple[int, ...]
    total: int | None = None

    def value(self, task: int | str) -> str:
        """Return the value of a task's option.

        Args:
            task: Number of the task, or a shell expression that gives it.
        """
        return str(task) if self.total is None else f"{task}/{self.total}"


class Job(Record):
    """One command line, or an array of them.

    Attributes:
        name: Name of the job, unique within its submission.
        command: Command line of unetpipe, without the option in which the tasks of an array differ.
        resources: Resources of each task.
        array: Tasks of the job; None for a single one.
        processes: Number of processes on each node that run the command together, as the ranks of one training.
        after: Names of the jobs that must have ended before this one starts.
        after_failure: Whether this job starts even if one of those has failed.
        resumes: Whether the command, started again, continues where it was stopped. Its job is then started again when
            it meets its time limit.
        tracked_in: Work folder in whose tracking store the command has a run; None if no store of MLflow has one.
        environment: Variables that are set for the command.
    """

    name: str
    command: Command
    resources: Resources
    array: Array | None = None
    processes: int = 1
    after: tuple[str, ...] = ()
    after_failure: bool = False
    resumes: bool = False
    tracked_in: Path | None = None
    environment: Mapping[str, str] = {}

    @property
    def tasks(self) -> dict[str, int | None]:
        """The number of each task by the task's name; None for the single task of a job without an array."""
        if self.array is None:
            return {self.name: None}
        return {f"{self.name}_{number}": number for number in self.array.tasks}

    def command_of(self, task: int | None) -> Command:
        """Return the command line of the task with a number, or of the single task for None."""
        if self.array is None or task is None:
            return self.command
        return with_options(self.command, self.array.option, self.array.value(task))


def with_options(command: Command, *words: str) -> Command:
    """Return a command line with further options, which stand before a ``--`` that ends its options."""
    options, rest = split_options(command)
    return (*options, *words, *rest)


def split_options(command: Command) -> tuple[Command, Command]:
    """Split a command line before a ``--`` that ends its options, or else at its end."""
    end = command.index("--") if "--" in command else len(command)
    return command[:end], command[end:]


def environment_words(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the words that set variables for the command which follows them; none for no variables."""
    return ("env", *(f"{name}={value}" for name, value in environment.items())) if environment else ()
