"""What a node has received, on disk: where a study lies says how far it is, and each step is one rename.

    OUT/incoming/STUDY/SERIES/INSTANCE.dcm    is being received, or waits
    OUT/working/STUDY.ATTEMPT/...             is being segmented
    OUT/dead-letter/STUDY/...                 failed; reason.json says why

An instance is acknowledged to its sender when its file and the folder that names it are on disk. A study whose
segmentation was cut off is segmented again when the node starts, unless that has happened to it several times. All
names are HMACs; the files hold patient data, and only the owner of the node can read them.
"""

import os
import shutil
import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from pathlib import Path

from unetpipe.documents import Record, write_document
from unetpipe.errors import ServiceError
from unetpipe.files import sync_folder

_ATTEMPTS = 3
_LACKS = "instances of it were refused and did not come again: send the whole study again"
_LOOK_AGAIN_SECONDS = 10.0  # between measurements of a folder that is full
_PATIENCE_SECONDS = 3600.0  # in which a sender should send again what was refused
PRIVATE = 0o700
"""Mode of every folder of a node."""


class FullError(ServiceError):
    """There is no room for an instance now; its sender may try again later."""


class Failure(Record):
    """The reason why a study or a result became a dead letter.

    Attributes:
        reason: One line, without identifiers.
    """

    reason: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of a spool, and when a study counts as complete.

    Attributes:
        studies: Studies that may be received or wait at a time.
        size_bytes: Size of everything in the folder of the node, beyond which no further study begins. Those that have
            begun come to their end, or none of them would ever leave.
        quiet_seconds: Time without an instance of a study after which the study counts as complete.
    """

    studies: int
    size_bytes: float
    quiet_seconds: float


@dataclass(frozen=True)
class Study:
    """A study that is being segmented.

    Attributes:
        name: Name of the study.
        folder: Folder of its series.
        fault: Why it is not to be segmented; empty where it is.
    """

    name: str
    folder: Path
    fault: str = ""

    def series(self) -> dict[str, tuple[str, ...]]:
        """Names of the instances of each series."""
        found: dict[str, list[str]] = defaultdict(list)
        for file in sorted(self.folder.rglob("*.dcm")):
            found[file.parent.name].append(file.stem)
        return {series: tuple(names) for series, names in found.items()}


class Spool:
    """Stores instances, and hands out studies that are complete.

    Thread-safe: associations store in threads of their own, while one thread takes studies.

    Args:
        root: Folder of the node, held by this process alone.
        limits: Bounds of the spool, and when a study counts as complete.
    """

    def __init__(self, root: Path, limits: Limits) -> None:
        self._root, self._limits = root, limits
        self._incoming, self._working, self._dead = (root / name for name in ("incoming", "working", "dead-letter"))
        self._receiving = root / "receiving"
        shutil.rmtree(self._receiving, ignore_errors=True)  # instances that were never acknowledged
        for folder in (self._incoming, self._working, self._dead, self._receiving):
            folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._last_arrival: dict[str, float] = {}
        self._storing: Counter[str] = Counter()  # instances that a slow disk has not taken yet
        self._refused: dict[str, dict[str, float]] = {}  # when instances of a study were refused that still lack
        self._interrupted = deque(sorted(path for path in self._working.iterdir() if path.is_dir()))
        self._files = 0
        self._used, self._overflowed, self._looked = 0, False, time.monotonic()
        self.recount()

    @property
    def used_bytes(self) -> int:
        """Size of everything in the folder of the node."""
        return self._used

    @property
    def is_full(self) -> bool:
        """Whether an instance was refused for want of room, and nothing has left the folder since."""
        return self._overflowed

    @property
    def waiting(self) -> int:
        """Number of studies that are being received or wait."""
        return len(self._last_arrival) + len(self._interrupted)

    @property
    def dead_letters(self) -> int:
        """Number of studies and results that failed."""
        return sum(path.is_dir() for path in self._dead.iterdir())

    def recount(self) -> None:
        """Measure the folder anew, after something has left it."""
        used = sum(_size(Path(place) / name) for place, _, names in os.walk(self._root) for name in names)
        with self._lock:
            self._used, self._overflowed = used, False

    def _look_again(self) -> None:
        """Measure a full folder anew: a person may have taken results or dead letters away."""
        before, self._looked = self._used, time.monotonic()
        self.recount()
        self._overflowed = self._used >= before

    def store(self, data: bytes, study: str, series: str, instance: str) -> None:
        """Write an instance to the disk; it is there, whatever happens, when this returns.

        A study of which an instance was refused is not complete until that has come.

        Args:
            data: A whole file in the DICOM file format.
            study: Name of the study.
            series: Name of the series.
            instance: Name of the instance.

        Raises:
            FullError: If as many studies wait as may wait, or the folder has reached its size.
            OSError: If the disk does not take it.
        """
        try:
            self._admit(study, len(data))
            self._write(data, study, series, instance)
        except (FullError, OSError):
            with self._lock:
                if not (self._incoming / study / series / f"{instance}.dcm").is_file():  # else it was sent again
                    self._refused.setdefault(study, {}).setdefault(instance, time.monotonic())
            raise
        with self._lock:
            self._refused.get(study, {}).pop(instance, None)

    def _write(self, data: bytes, study: str, series: str, instance: str) -> None:
        with self._lock:
            self._files += 1
            temporary = self._receiving / f"{self._files}.dcm"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with self._lock:
                folder = self._incoming / study / series
                for place in (folder.parent, folder):
                    if not place.is_dir():
                        place.mkdir(mode=PRIVATE)
                        sync_folder(place.parent)
                temporary.replace(folder / f"{instance}.dcm")
                sync_folder(folder)
                self._last_arrival[study] = time.monotonic()
        finally:
            temporary.unlink(missing_ok=True)
            with self._lock:
                self._storing -= Counter((study,))
                if not (self._incoming / study).is_dir():  # its first instance could not be written
                    self._last_arrival.pop(study, None)

    def _admit(self, study: str, size: int) -> None:
        with self._lock:
            if study not in self._last_arrival and len(self._last_arrival) >= self._limits.studies:
                raise FullError(f"{self._limits.studies} studies wait already")
            if study not in self._last_arrival and self._used + size > self._limits.size_bytes:
                self._overflowed = True
                raise FullError(f"the folder of the node has reached its size of {self._limits.size_bytes / 1e9:g} GB")
            self._used += size
            self._storing[study] += 1
            self._last_arrival[study] = time.monotonic()

    def complete(self, study: str) -> None:
        """Take a study as complete: its quiet period is not waited for."""
        with self._lock:
            if study in self._last_arrival:
                self._last_arrival[study] = -self._limits.quiet_seconds

    def take(self) -> Study | None:
        """Begin the study that has waited longest; None where none is complete.

        What has come again of a study that could not be put away waits until the next start has dealt with that.

        Studies whose segmentation was cut off come first. One that was cut off several times is not to be segmented:
        it may be what ends the process. So is one of which refused instances have not come within an hour.
        """
        if self._overflowed and time.monotonic() - self._looked > _LOOK_AGAIN_SECONDS:
            self._look_again()
        if self._interrupted:
            cut_off = self._interrupted.popleft()
            name, _, attempt = cut_off.name.rpartition(".")
            if int(attempt) < _ATTEMPTS:
                again = cut_off.with_name(f"{name}.{int(attempt) + 1}")
                cut_off.rename(again)
                return Study(name, again)
            return Study(name, cut_off, f"the process ended {_ATTEMPTS} times while it was segmented")
        with self._lock:
            now = time.monotonic()
            for folder in self._incoming.iterdir():  # what an earlier process received, or an operator puts back
                if folder.is_dir():
                    self._last_arrival.setdefault(folder.name, now)
            over = now - _PATIENCE_SECONDS
            complete = [
                (arrived, name)
                for name, arrived in self._last_arrival.items()
                if now - arrived >= self._limits.quiet_seconds
                and not self._storing[name]
                and all(refused <= over for refused in self._refused.get(name, {}).values())
                and (self._incoming / name).is_dir()
                and not any(self._working.glob(f"{name}.*"))
            ]
            for name in [name for name in self._refused if name not in self._last_arrival]:
                if all(refused <= over for refused in self._refused[name].values()):
                    del self._refused[name]  # nothing of it came, and it is not expected any more
            if not complete:
                return None
            _, name = min(complete)
            folder = self._working / f"{name}.1"
            (self._incoming / name).rename(folder)
            del self._last_arrival[name]
            lacks = bool(self._refused.pop(name, {}))
        return Study(name, folder, _LACKS if lacks else "")

    def remove(self, study: Study) -> None:
        """Delete a study that is done."""
        shutil.rmtree(study.folder)
        self.recount()

    def bury(self, study: Study, reason: str) -> None:
        """Move a study that failed to the dead letters."""
        write_document(study.folder / "reason.json", Failure(reason=reason))
        study.folder.rename(self._free(study.name))

    def bury_result(self, file: Path, reason: str) -> None:
        """Move a result that nobody takes to the dead letters.

        Raises:
            OSError: If the disk does not take it; then nothing is left among the dead letters.
        """
        folder = self._free(file.stem)
        folder.mkdir(mode=PRIVATE)
        try:
            write_document(folder / "reason.json", Failure(reason=reason))
            file.rename(folder / file.name)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _free(self, name: str) -> Path:
        """A place among the dead letters: a study may fail several times."""
        places = (self._dead / (f"{name}-{number}" if number else name) for number in range(10**6))
        return next(place for place in places if not place.exists())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another thread has moved it
        return 0
