"""A folder of outputs is for one command at a time: two would write over each other's files.

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
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from unetpipe.errors import UnetpipeError

_RENEWAL_SECONDS = 20.0
LEASE_SECONDS = 120.0
"""Seconds without a sign of life after which a folder can be taken, on a file system that has no locks."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that holds a folder.

    Attributes:
        token: Random text that identifies the process.
        process: Its number.
        host: Name of the machine that it runs on.
        job: Slurm's id of the job that it runs in; None outside of one.
        start: Number of times that the job had been requeued before it started this process.
    """

    token: str
    process: int
    host: str
    job: str | None = None
    start: int = 0

    @classmethod
    def this_process(cls, environment: Mapping[str, str]) -> "Holder":
        """Read Slurm's variables."""
        start = int(environment.get("SLURM_RESTART_COUNT", "0"))
        return cls(
            token=secrets.token_hex(8),
            process=os.getpid(),
            host=socket.gethostname(),
            job=environment.get("SLURM_JOB_ID"),
            start=start,
        )

    def __str__(self) -> str:
        """Words by which a person finds the process."""
        job = f", Slurm's job {self.job}" if self.job else ""
        return f"process {self.process} on {self.host}{job}"

    def is_earlier_start_of(self, other: "Holder") -> bool:
        """Whether both are starts of one job, and this is the earlier one."""
        return self.job is not None and self.job == other.job and self.start < other.start


class Claim:
    """A folder, held by this process."""

    def __init__(self, folder: Path, name: str, holder: Holder, lock: str = ".lock") -> None:
        self._path, self._name, self._holder = folder / lock, name, holder
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Hold the folder.

        Raises:
            UnetpipeError: If another process does.
        """
        before = _read(self._path)
        file = self._locked_file()
        if file is None and before is not None and before.is_earlier_start_of(self._holder):
            self._path.unlink(missing_ok=True)  # the earlier process keeps a file that has no name any more
            file = self._locked_file()
        if file is None:
            raise UnetpipeError(f"{self._name} is in use by {_read(self._path) or before or 'another process'}")
        self._file = file
        file.truncate(0)
        file.write(json.dumps(asdict(self._holder)))
        file.flush()
        self.require()

    def require(self) -> None:
        """Make sure, before something is written, that no other process has taken the folder.

        Raises:
            UnetpipeError: If one has.
        """
        if (found := _read(self._path)) != self._holder:
            raise UnetpipeError(f"{self._name} was taken by {found or 'another process'}: this one stops")

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
        may_be_held = _read(self._path) is not None and 0 <= _age_seconds(self._path) <= LEASE_SECONDS
        file = self._path.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS and not may_be_held and not self._is_renewed():
                return file
            file.close()
            if error.errno in _NO_LOCKS or isinstance(error, BlockingIOError):
                return None
            raise
        return file

    def _is_renewed(self) -> bool:
        """Watch whether a holder gives a sign of life: its time stamp may be old because a clock has jumped."""
        if _read(self._path) is None:
            return False
        before, until = self._path.stat().st_mtime_ns, time.monotonic() + 1.5 * _RENEWAL_SECONDS
        while time.monotonic() < until:
            time.sleep(min(1.0, _RENEWAL_SECONDS / 4))
            with suppress(FileNotFoundError):
                if self._path.stat().st_mtime_ns != before:
                    return True
        return False


@contextmanager
def claimed(folder: Path, name: str | None = None, lock: str = ".lock") -> Iterator[Claim]:
    """Hold a folder, which is made if it is not there, and removed if nothing was written into it then.

    Args:
        folder: The folder.
        name: What a message calls it; its path unless given.
        lock: Name of the lock file. Commands that share a folder, and no file in it, have one each.

    Raises:
        UnetpipeError: If another process holds it.
    """
    was_there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    claim, over = Claim(folder, name or str(folder), Holder.this_process(os.environ), lock), threading.Event()

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
        if not was_there:
            with suppress(OSError):  # it holds something now
                folder.rmdir()


def _read(path: Path) -> Holder | None:
    """Whose the lock file is; None where there is none, or nothing in it."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
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
