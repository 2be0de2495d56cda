"""The run that other runs are part of: of all folds of a training, or of all jobs of a submission."""

import os
from pathlib import Path

from unetpipe.files import write_text

SUBMISSION_VARIABLE = "UNETPIPE_SUBMISSION_RUN"
_NOTE = "tracking_run"


def submission_run() -> str | None:
    """Id of the run of the submission that this process is a job of, as `unetpipe submit` has set it; else None."""
    return os.environ.get(SUBMISSION_VARIABLE) or None


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
