"""Files that are either whole or not there: written beside their place, synced, renamed into it.

A kill leaves the temporary file behind; whoever writes the same file next removes it. A lock tells it from one that
another process is writing.
"""

import fcntl
import glob
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PREFIX = ".tmp-"
_ABANDONED_SECONDS = 3600.0  # on a file system without locks: nothing is written for so long


@contextmanager
def atomic_path(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary path in the same folder; on success it takes `path`'s place, on failure it goes.

    The temporary name keeps the suffix, since writers choose their format by it.

    Args:
        path: The file to write.
        private: Let nobody but its owner read the file, at any time.
    """
    with _temporary_path(path) as temporary:
        yield temporary
        _complete(temporary, private=private)
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
    """Make an empty file beside a path, locked while it is written, and gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    handle, temporary = _locked_temporary(path)
    try:
        yield temporary
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)  # which a full disk does not say, and nobody knows the temporary name
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def _complete(temporary: Path, *, private: bool) -> None:
    """Give a file its permissions, and bring it to the disk."""
    temporary.chmod(0o600 if private else 0o666 & ~_umask())
    with temporary.open("rb") as file:
        os.fsync(file.fileno())


def _locked_temporary(path: Path) -> tuple[int, Path]:
    """Make a temporary file for a path, and lock it until its handle is closed."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_PREFIX, suffix=f"-{path.name}", dir=path.parent)
        with suppress(OSError):  # of a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if Path(name).exists():  # else it was taken for a leftover before it was locked
            return handle, Path(name)
        os.close(handle)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of a path that nobody is writing."""
    names = os.listdir(path.parent)  # noqa: PTH208 - cheaper than a glob, for each of a thousand files of a folder
    left = [name for name in names if name.startswith(_PREFIX) and name.endswith(f"-{path.name}")]
    for leftover in map(path.parent.joinpath, left):
        with suppress(OSError), leftover.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError:
                if time.time() - leftover.stat().st_mtime < _ABANDONED_SECONDS:
                    continue
            leftover.unlink()
            for journal in path.parent.glob(f"{glob.escape(leftover.name)}-*"):  # of a database
                journal.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
