"""Files replaced in one step."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from unetpipe.files import atomic_path, write_json


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """An error inside the block neither touches the old contents nor leaves a temporary file."""
    path = tmp_path / "a.nii.gz"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_write_replaces_the_file(tmp_path: Path) -> None:
    """The temporary name has the same suffix and folder; afterwards only the wanted file is there."""
    path = tmp_path / "new" / "a.nii.gz"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith("a.nii.gz")
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_names_the_file_that_was_wanted(tmp_path: Path) -> None:
    """Not the temporary one, nor none as the operating system does."""

    def write() -> None:
        with atomic_path(tmp_path / "a.csv"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"No space left on device: '.*/a.csv'"):
        write()


def test_json_that_only_python_reads_is_refused(tmp_path: Path) -> None:
    """NaN is no JSON; nothing is written."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"dice": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_is_removed_by_the_next_write(tmp_path: Path) -> None:
    """Of this file alone, and not if somebody is writing it."""
    leftover, other = tmp_path / ".tmp-abcdefgh-a.json", tmp_path / ".tmp-abcdefgh-b.json"
    leftover.touch()
    other.touch()
    with atomic_path(tmp_path / "a.json") as first, atomic_path(tmp_path / "a.json") as second:
        assert first.exists()
        assert not leftover.exists()
        first.write_text("1")
        second.write_text("2")
    assert sorted(tmp_path.iterdir()) == [other, tmp_path / "a.json"]


def test_leftovers_without_locks_are_told_by_their_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system that has none: an hour without a write."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    old, new = tmp_path / ".tmp-abcdefgh-a.json", tmp_path / ".tmp-ijklmnop-a.json"
    for leftover in (old, new):
        leftover.touch()
    os.utime(old, (1e9, 1e9))
    write_json(tmp_path / "a.json", 1)
    assert sorted(tmp_path.iterdir()) == [new, tmp_path / "a.json"]
