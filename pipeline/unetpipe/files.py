"""Files that are either whole or not there: written beside their place, synced, renamed into it.

A kill leaves the temporary file behind; whoever writes the same file next removes it. A lock tells it from one that
another process is writing.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count, takewhile
from pathlib import Path
from typing import Any

_PREFIX = ".tmp-"
_JOURNALS = ("-journal", "-wal", "-shm")  # that SQLite writes beside a database
_LONGEST_NAME, _TAIL = 200, 32  # bytes of a name that stands in the temporary one, else its last characters
_UMASK = os.umask(0o077)  # read once: there is no other way than to set it, which holds for all threads
os.umask(_UMASK)
_ABANDONED_SECONDS = 3600.0  # on a file system without locks: nothing is written for so long


@contextmanager
def atomic_path(path: Path, *, private: bool = False, previous: Path | None = None) -> Iterator[Path]:
    """Give a temporary path in the same folder; on success it takes `path`'s place, on failure it goes.

    The temporary name keeps the suffix, since writers choose their format by it.

    Args:
        path: The file to write.
        private: Let nobody but its owner read the file, at any time.
        previous: Where the file goes whose place is taken, once the new one is on the disk.
    """
    with _temporary_path(path) as temporary:
        yield temporary
        _complete(temporary, private=private)
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)


@contextmanager
def new_path(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary path as `atomic_path` does; on success it takes `path`'s place unless there is a file by now.

    Of processes that make the same file at the same time the first one succeeds, and the others take its file.
    """
    with _temporary_path(path) as temporary:
        yield temporary
        _complete(temporary, private=private)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                temporary.replace(path)
                return
        temporary.unlink()


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write UTF-8 text atomically, readable by its owner only if `private`."""
    with atomic_path(path, private=private) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically. NaN is refused: no reader but Python's takes it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a file that was renamed into it is there after a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _temporary_path(path: Path) -> Iterator[Path]:
    """Make an empty file beside a path, locked while it is written, and gone after a failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, temporary = _locked_temporary(path)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        yield temporary
    except BaseException as error:
        temporary.unlink(missing_ok=True)  # never after a success: the name may be another writer's by then
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)  # which a full disk does not say, and nobody knows the temporary name
        raise
    finally:
        os.close(handle)


def _complete(temporary: Path, *, private: bool) -> None:
    """Give a file its permissions, and bring it to the disk."""
    temporary.chmod(0o600 if private else 0o666 & ~_UMASK)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())


def _locked_temporary(path: Path) -> tuple[int, Path]:
    """Make a temporary file for a path, and lock it until its handle is closed.

    Its name follows from the path's and from how many write it now, so that what a kill left is met without listing
    the folder, which may hold thousands of files.

    Raises:
        OSError: If no file can be made there.
    """
    base = _temporary_base(path.name)
    names = (path.with_name(f"{_PREFIX}{number}-{base}") for number in count())
    for temporary in names:
        while _is_free(temporary):
            with suppress(FileExistsError):
                handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with suppress(OSError):  # of a file system without locks
                    fcntl.flock(handle, fcntl.LOCK_EX)
                if _is_at(handle, temporary):  # else it was taken for a leftover before it was locked
                    with suppress(OSError):  # what others left that wrote at the same time
                        for _ in takewhile(lambda other: other.exists() and _is_free(other), names):
                            pass
                    return handle, temporary
                os.close(handle)
    raise AssertionError("numbers do not end")


def _temporary_base(name: str) -> str:
    """A name, or what stands for one to which no file system would let a prefix be added."""
    if len(os.fsencode(name)) <= _LONGEST_NAME:
        return name
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16] + name[-_TAIL:]


def _is_free(temporary: Path) -> bool:
    """Whether a temporary file is not there; one that nobody is writing is removed.

    Raises:
        OSError: If that cannot be told: where no name of the folder can be looked up, the next one is no better.
    """
    try:
        with temporary.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:
                if time.time() - temporary.stat().st_mtime < _ABANDONED_SECONDS:
                    return False
            if not _is_at(file.fileno(), temporary):  # somebody else has just removed it, and writes again
                return False
            temporary.unlink()
            for suffix in _JOURNALS:
                temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
    except FileNotFoundError:
        return not os.path.lexists(temporary)  # as a link to nowhere is
    except OSError:
        if os.path.lexists(temporary):  # such as another person's, or a folder
            return False
        raise
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
