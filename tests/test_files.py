"""Files replaced in one step."""

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

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
    """Of this file alone, however many wrote it, and not if somebody is writing it."""
    leftovers, other = [tmp_path / f".tmp-{number}-a.json" for number in range(4)], tmp_path / ".tmp-0-b.json"
    journals = [tmp_path / f".tmp-0-a.json-{kind}" for kind in ("journal", "wal", "shm")]
    for left in (*leftovers, *journals, other):
        left.write_text("half")
    with atomic_path(tmp_path / "a.json") as first:
        assert sorted(tmp_path.iterdir()) == sorted([first, other])
        assert first.read_text() == ""
        with atomic_path(tmp_path / "a.json") as second:
            first.write_text("1")
            second.write_text("2")
            assert second != first
        assert first.read_text() == "1"
    assert sorted(tmp_path.iterdir()) == [other, tmp_path / "a.json"]


def test_what_cannot_be_taken_for_a_leftover_is_left_alone(tmp_path: Path) -> None:
    """Such as a folder, or another person's file: the next name is taken."""
    (tmp_path / ".tmp-0-a.json").mkdir()
    write_json(tmp_path / "a.json", 1)
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".tmp-0-a.json", tmp_path / "a.json"]


def test_one_file_written_by_many_at_once_is_always_whole(tmp_path: Path) -> None:
    """Threads that write, fail and leave half of it behind never write into each other's file."""

    def write(number: int) -> None:
        for _ in range(50):
            with suppress(ValueError), atomic_path(tmp_path / "a") as temporary:
                temporary.write_bytes(bytes([number]) * 10_000)
                if number == 0:
                    raise ValueError
                assert set(temporary.read_bytes()) == {number}

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert len(set((tmp_path / "a").read_bytes())) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_leftovers_without_locks_are_told_by_their_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network file system that has none: an hour without a write."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    old, new = tmp_path / ".tmp-0-a.json", tmp_path / ".tmp-1-a.json"
    for leftover in (old, new):
        leftover.touch()
    os.utime(old, (1e9, 1e9))
    with atomic_path(tmp_path / "a.json") as temporary:
        assert temporary == old
        assert new.exists()
        temporary.write_text("1")
    assert sorted(tmp_path.iterdir()) == [new, tmp_path / "a.json"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_folder_that_cannot_be_looked_into_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """No further name would be better; the error names the file that was wanted."""
    (tmp_path / ".tmp-0-a.json").touch()

    def fail(path: Path, *_: object) -> object:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match=r"/a\.json'") as caught:
        write_json(tmp_path / "a.json", 1)
    assert caught.value.errno == code


def test_what_another_person_writes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their file cannot be opened, and a link to nowhere is not followed: the next name is taken."""
    theirs, link = tmp_path / ".tmp-0-a.json", tmp_path / ".tmp-1-a.json"
    theirs.touch()
    link.symlink_to("nowhere")
    opened = Path.open

    def open_own(path: Path, *arguments: Any, **named: Any) -> Any:
        if path == theirs:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", open_own)
    write_json(tmp_path / "a.json", 1)
    assert sorted(tmp_path.iterdir()) == [theirs, link, tmp_path / "a.json"]


@pytest.mark.parametrize("name", [f"{'a' * 243}.nii.gz", f"{'ä' * 125}.json"])
def test_a_name_may_be_as_long_as_the_file_system_lets_it(tmp_path: Path, name: str) -> None:
    """The temporary one is shorter then, and ends in the same way."""
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.name.endswith(name[-12:])
        temporary.write_text("1")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(OSError, match="File name too long"):
        write_json(tmp_path / ("a" * 10 + name), 1)
