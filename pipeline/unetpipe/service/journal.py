"""Which studies have been segmented, or have failed, so that none is segmented twice or from a part of its slices.

Networks send again what they are not sure of: after a broken association, or after the node was killed. A DICOM node
cannot know whether a study is complete, and slices that come late must not become a volume of their own.

A record is kept for a day. Who sends a study again after that wants it to be segmented again; the result then has the
identifiers of the first one, so that an archive holds it once. A clock that jumps while the node runs changes nothing.
"""

import logging
import threading
import time
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from unetpipe.documents import Record, write_document
from unetpipe.service.spool import PRIVATE

log = logging.getLogger(__name__)

JOURNAL_SCHEMA: Final = 1
NO_MODEL: Final = ""
"""Stands for the model of a study that could not be segmented."""
_KEPT_SECONDS = 86400.0


class Segmented(Record):
    """A study that has been segmented, or could not be. All names are HMACs.

    Attributes:
        study: Name of the study.
        series: Names of the instances of each series.
        model: Hash of the model's weights and of how it was used; `NO_MODEL` where it could not be segmented.
    """

    schema_version: Literal[1] = JOURNAL_SCHEMA
    study: str
    series: dict[str, tuple[str, ...]]
    model: str


class Journal:
    """The studies that have been segmented, or could not be, within a day: a file for each.

    Thread-safe: associations ask for results while studies are segmented.

    Args:
        folder: Folder of the records.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        self._records: dict[str, tuple[float, Segmented]] = {}
        for file in folder.glob("*.json"):
            try:
                record = Segmented.model_validate_json(file.read_bytes())
            except ValidationError:
                log.warning("%s is no record of the journal; it is left as it is", file.name)
            else:
                age = max(0.0, time.time() - file.stat().st_mtime)
                self._records[file.stem] = (time.monotonic() - age, record)

    def __contains__(self, result: str) -> bool:
        """Whether a result of this name has been made."""
        return result in self._known()

    def add(self, result: str, segmented: Segmented) -> None:
        """Note that a result has been made, or cannot be; it is on disk when this returns."""
        write_document(self._folder / f"{result}.json", segmented)
        with self._lock:
            self._records[result] = (time.monotonic(), segmented)

    def is_repeat(self, arrived: Segmented) -> bool:
        """Whether everything that has arrived of a study has been segmented before, by the same model."""
        return any(
            record.model == arrived.model
            and all(set(names) <= set(record.series.get(series, ())) for series, names in arrived.series.items())
            for record in self._of(arrived.study)
        )

    def is_remainder(self, arrived: Segmented) -> bool:
        """Whether slices have arrived of a series that was dealt with before, but not the whole series."""
        return any(
            not set(names) >= set(record.series.get(series, ()))
            for record in self._of(arrived.study)
            for series, names in arrived.series.items()
        )

    def _of(self, study: str) -> list[Segmented]:
        return [record for record in self._known().values() if record.study == study]

    def _known(self) -> dict[str, Segmented]:
        """The records that are not too old; others are removed."""
        oldest = time.monotonic() - _KEPT_SECONDS
        with self._lock:
            for result in [name for name, (written, _) in self._records.items() if written < oldest]:
                (self._folder / f"{result}.json").unlink(missing_ok=True)
                del self._records[result]
            return {name: record for name, (_, record) in self._records.items()}
