"""The run that other runs are part of: of all folds of a training, or of all jobs of a submission."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetpipe import __version__
from unetpipe.files import write_text
from unetpipe.tracking.mlflow import MlflowTracker
from unetpipe.tracking.runs import close_run, find_run
from unetpipe.tracking.store import open_store
from unetpipe.tracking.tracker import Status, TrackedRun

log = logging.getLogger(__name__)

SUBMISSION_VARIABLE = "UNETPIPE_SUBMISSION_RUN"
_NOTE = "tracking_run"


def submission_run() -> str | None:
    """Id of the run of the submission that this process is a job of, as `unetpipe submit` has set it; else None."""
    return os.environ.get(SUBMISSION_VARIABLE) or None


def start_submission_run(work: Path, name: str, parameters: Mapping[str, Any]) -> str | None:
    """Start the run that the runs of a submission's jobs are part of.

    Args:
        work: Work folder whose store is used unless the environment names another; made where it is not there yet.
        name: Name of the run.
        parameters: What was submitted, without paths.

    Returns:
        Id of the run; None, with a line that says so, where the store does not answer.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        tracker = MlflowTracker(TrackedRun(work=work, name=name))
        tracker.parameters(parameters)
        tracker.tags({"unetpipe": __version__})
    except Exception as error:  # whatever a store, its driver or the network throw
        log.warning("the submission has no run in the tracking store (%s)", type(error).__name__)
        return None
    return tracker.run_id


def end_submission_run(work: Path, run_id: str, status: Status) -> bool:
    """Give the run of a submission its final status.

    Returns:
        Whether the store has taken it.
    """
    try:
        client, _ = open_store(work)
        if find_run(client, run_id):
            close_run(client, run_id, status)
    except Exception as error:  # as above
        log.warning("the run of the submission stays open in the tracking store (%s)", type(error).__name__)
        return False
    return True


def noted_run(folder: Path) -> str | None:
    """Id of the run of all folds in a folder together; None where none is noted there.

    Args:
        folder: Folder of the run, such as WORK/runs/default.
    """
    note = folder / _NOTE
    return note.read_text(encoding="utf-8") if note.is_file() else None


def note_run(folder: Path, run_id: str) -> None:
    """Note the id of the run of all folds in a folder together."""
    write_text(folder / _NOTE, run_id)
