"""The record of a submission.

It is a numbered folder that holds the scripts, the output of every task, and `submission.json`, from which `status`,
`logs`, `cancel` and `retry` know what was submitted.
"""

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
    """The jobs that were submitted together.

    Attributes:
        cluster: Slurm, or this machine.
        submitted: Time of the submission, in UTC.
        where: Absolute path of the folder that the jobs run in.
        jobs: Jobs in an order in which each stands after those that it depends on.
        ids: Slurm's id of each job by its name; for a local submission the id of the one process that runs all jobs.
        process_started: Start time of that process in seconds since 1970, which distinguishes it from a later process
            with the same id; None on Slurm.
        tracking_run: Id of the run that the runs of its jobs are part of, until that run has ended; None where there is
            none.
    """

    schema_version: Literal[1] = SUBMISSION_SCHEMA
    cluster: ClusterName
    submitted: datetime
    where: Path
    jobs: tuple[Job, ...]
    ids: Mapping[str, str] = {}
    process_started: float | None = None
    tracking_run: str | None = None


def new_submission(cluster: ClusterName, jobs: tuple[Job, ...], where: Path | None = None) -> Submission:
    """Describe a submission of jobs before they have ids; they run in the current folder unless another is given."""
    return Submission(cluster=cluster, submitted=datetime.now(UTC), where=where or Path.cwd(), jobs=jobs)


def make_folder(logs: Path) -> Path:
    """Make the folder of the next submission and return its absolute path.

    Its name is the next number, also if several people submit at the same time.

    Args:
        logs: Folder of all submissions; it is made if it does not exist.
    """
    while True:
        folder = logs.absolute() / str(max(_numbers(logs), default=0) + 1)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # another submission has just taken this number
            continue
        return folder


def find_folder(logs: Path, number: int | None) -> Path:
    """Find the folder of a submission and return its absolute path.

    Args:
        logs: Folder of all submissions.
        number: Number of the submission; None for the last one.

    Raises:
        ClusterError: If there is no such submission.
    """
    numbers = [one for one in _numbers(logs) if (logs / str(one) / _FILE).is_file()]
    if not numbers:
        raise ClusterError(f"{logs} holds no submission")
    if number is not None and number not in numbers:
        raise ClusterError(f"{logs} holds no submission {number}, but {min(numbers)} to {max(numbers)}")
    return logs.absolute() / str(number or max(numbers))


def write_submission(folder: Path, submission: Submission) -> None:
    """Write the record of a submission into its folder, atomically."""
    write_document(folder / _FILE, submission)


def read_submission(folder: Path) -> Submission:
    """Read the record of a submission from its folder.

    Raises:
        ClusterError: If the record is malformed.
    """
    try:
        return Submission.model_validate_json((folder / _FILE).read_bytes())
    except ValidationError as error:
        raise ClusterError(explain(str(folder / _FILE), error)) from error


def _numbers(logs: Path) -> list[int]:
    return [int(path.name) for path in logs.iterdir() if path.name.isdecimal()] if logs.is_dir() else []
