"""A run's folder is for one training at a time: two would write over each other's checkpoints.

A lock of the file system (flock) says whether somebody holds the folder, and goes with the process that held it. Where
a file system has no such locks, the holder renews the lock file's time stamp instead, and a stale one may be taken.

A job that Slurm has requeued may take the folder from the process of its earlier start, which lives on where a node is
only thought to be dead. What is in the lock file says whose folder it is now, so that the earlier process finds out
before it writes anything.
"""

import errno
import fcntl
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from unetpipe.errors import TrainingError

_LOCK = ".lock"
_RENEWAL_SECONDS = 20.0
LEASE_SECONDS = 120.0
"""Seconds without a sign of life after which a folder can be taken, on a file system that has no locks."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a run's folder.

    Attributes:
        token: Random text that identifies the process.
        job: Slurm's id of the job that it runs in; None outside of one.
        start: Number of times that the job had been requeued before it started this process.
    """

    token: str
    job: str | None = None
    start: int = 0

    @classmethod
    def this_process(cls, environment: Mapping[str, str]) -> "Holder":
        """Read Slurm's variables."""
        start = int(environment.get("SLURM_RESTART_COUNT", "0"))
        return cls(token=secrets.token_hex(8), job=environment.get("SLURM_JOB_ID"), start=start)

    def is_earlier_start_of(self, other: "Holder") -> bool:
        """Whether both are starts of one job, and this is the earlier one."""
        return self.job is not None and self.job == other.job and self.start < other.start


class Claim:
    """A run's folder, held by this process."""

    def __init__(self, folder: Path, holder: Holder) -> None:
        self._path, self._holder = folder / _LOCK, holder
        self._name = f"{folder.parent.name}/{folder.name}"
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Hold the folder.

        Raises:
            TrainingError: If another process does.
        """
        before = _read(self._path)
        file = self._locked_file()
        if file is None and before is not None and before.is_earlier_start_of(self._holder):
            self._path.unlink(missing_ok=True)  # the earlier process keeps a file that has no name any more
            file = self._locked_file()
        if file is None:
            raise TrainingError(f"run {self._name} is being trained by another process")
        self._file = file
        file.truncate(0)
        file.write(json.dumps(asdict(self._holder)))
        file.flush()
        self.require()

    def require(self) -> None:
        """Make sure, before something is written, that no other process has taken the folder.

        Raises:
            TrainingError: If one has.
        """
        if _read(self._path) != self._holder:
            raise TrainingError(f"run {self._name} is now trained by another process: this one stops")

    def renew(self) -> None:
        """Give a sign of life."""
        with suppress(OSError):  # of a file system that is away for a while, or a lock file that is another's by now
            if _read(self._path) == self._holder:
                os.utime(self._path)

    def release(self) -> None:
        """Give the folder back, if it is still this process's."""
        if _read(self._path) == self._holder:
            self._path.unlink(missing_ok=True)
        if self._file is not None:
            self._file.close()

    def _locked_file(self) -> IO[str] | None:
        """Open the lock file and lock it; None if another process has, or may have."""
        may_be_held = _read(self._path) is not None and _age_seconds(self._path) <= LEASE_SECONDS
        file = self._path.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS and not may_be_held:
                return file
            file.close()
            if error.errno in _NO_LOCKS or isinstance(error, BlockingIOError):
                return None
            raise
        return file


@contextmanager
def claimed(folder: Path) -> Iterator[Claim]:
    """Hold a run's folder, which is made if it is not there.

    Raises:
        TrainingError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    claim, over = Claim(folder, Holder.this_process(os.environ)), threading.Event()

    def renew() -> None:
        while not over.wait(_RENEWAL_SECONDS):
            claim.renew()

    claim.take()
    thread = threading.Thread(target=renew, name="lock", daemon=True)
    thread.start()
    try:
        yield claim
    finally:
        over.set()
        thread.join()
        claim.release()


def _read(path: Path) -> Holder | None:
    """Whose the lock file is; None where there is none, or nothing in it."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _age_seconds(path: Path) -> float:
    """Time since a file was written or renewed, by the clock of its file system; 0 where it is not there."""
    mark = path.with_name(f"{path.name}-{secrets.token_hex(4)}")
    try:
        mark.touch()
        return mark.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        mark.unlink(missing_ok=True)
