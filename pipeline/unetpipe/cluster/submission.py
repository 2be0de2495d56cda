"""The record of a submission: a numbered folder with its scripts, its jobs' output, and what was submitted."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from unetpipe.cluster.jobs import Job
from unetpipe.documents import Record, explain, write_document
from unetpipe.errors import ClusterError

SUBMISSION_SCHEMA: Final = 1
_FILE = "submission.json"

ClusterName = Literal["slurm", "local"]


class Submission(Record):
    """What was submitted together.

    Attributes:
        cluster: Where to.
        submitted: When, in UTC.
        where: Folder that the jobs run in.
        jobs: Each after those that it depends on.
        ids: By job name: Slurm's id, or that of the process that runs all jobs of a submission in turn.
        process_started: When that process was started, in seconds since 1970, by which it is told from a later one
            with the same id.
    """

    schema_version: Literal[1] = SUBMISSION_SCHEMA
    cluster: ClusterName
    submitted: datetime
    where: Path
    jobs: tuple[Job, ...]
    ids: Mapping[str, str] = {}
    process_started: float | None = None


def new_submission(cluster: ClusterName, jobs: tuple[Job, ...]) -> Submission:
    """Describe what is about to be submitted from the current folder."""
    return Submission(cluster=cluster, submitted=datetime.now(UTC), where=Path.cwd(), jobs=jobs)


def make_folder(logs: Path) -> Path:
    """Make the folder of the next submission, with the next number as its name; absolute."""
    while True:
        folder = logs.absolute() / str(max(_numbers(logs), default=0) + 1)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # somebody else has just taken this number
            continue
        return folder


def find_folder(logs: Path, number: int | None) -> Path:
    """Find the folder of a submission, the last one unless a number is given.

    Raises:
        ClusterError: If there is none.
    """
    numbers = [one for one in _numbers(logs) if (logs / str(one) / _FILE).is_file()]
    if not numbers:
        raise ClusterError(f"{logs} holds no submission")
    if number is not None and number not in numbers:
        raise ClusterError(f"{logs} holds no submission {number}, but {min(numbers)} to {max(numbers)}")
    return logs.absolute() / str(number or max(numbers))


def write_submission(folder: Path, submission: Submission) -> None:
    """Write the record, atomically."""
    write_document(folder / _FILE, submission)


def read_submission(folder: Path) -> Submission:
    """Read the record.

    Raises:
        ClusterError: If it cannot be read.
    """
    try:
        return Submission.model_validate_json((folder / _FILE).read_bytes())
    except ValidationError as error:
        raise ClusterError(explain(str(folder / _FILE), error)) from error


def _numbers(logs: Path) -> list[int]:
    return [int(path.name) for path in logs.iterdir() if path.name.isdecimal()] if logs.is_dir() else []
