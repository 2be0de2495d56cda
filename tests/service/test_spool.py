"""What was received is on disk, in the place that says how far it is, whatever happens to the process."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from unetpipe.service.spool import FullError, Limits, Spool


def spool_of(root: Path, *, studies: int = 10, size: float = 1e6, quiet: float = 0.0) -> Spool:
    return Spool(root, Limits(studies=studies, size_bytes=size, quiet_seconds=quiet))


def test_a_study_is_taken_when_it_is_quiet_or_complete(tmp_path: Path) -> None:
    """Within the quiet period nothing is taken, unless the study is said to be complete."""
    spool = spool_of(tmp_path, quiet=3600)
    spool.store(b"one", "study", "series", "1")
    assert spool.take() is None
    spool.complete("study")
    study = spool.take()
    assert study is not None
    assert study.series() == {"series": ("1",)}
    assert spool.waiting == 0
    spool.remove(study)
    assert spool.used_bytes == 0


def test_instances_that_come_while_a_study_is_segmented_wait(tmp_path: Path) -> None:
    """They are a study of their own: what is being segmented does not change."""
    spool = spool_of(tmp_path)
    spool.store(b"one", "study", "series", "1")
    first = spool.take()
    assert first is not None
    spool.store(b"two", "study", "series", "2")
    assert first.series() == {"series": ("1",)}
    spool.remove(first)
    second = spool.take()
    assert second is not None
    assert second.series() == {"series": ("2",)}


def test_a_study_is_not_complete_while_the_disk_takes_one_of_its_instances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes: the quiet period may be over before a slow disk answers."""
    spool = spool_of(tmp_path)
    spool.store(b"one", "study", "series", "1")
    writes, may_end, flush = threading.Event(), threading.Event(), os.fsync

    def slow(file: int) -> None:
        writes.set()
        assert may_end.wait(60)
        flush(file)

    monkeypatch.setattr(os, "fsync", slow)
    sender = threading.Thread(target=spool.store, args=(b"two", "study", "series", "2"))
    sender.start()
    assert writes.wait(60)
    assert spool.take() is None
    may_end.set()
    sender.join()
    study = spool.take()
    assert study is not None
    assert study.series() == {"series": ("1", "2")}


def test_nothing_is_lost_when_the_process_ends(tmp_path: Path) -> None:
    """A new process finds the study whose segmentation was cut off, then the one that waited; half a file is gone."""
    before = spool_of(tmp_path)
    before.store(b"one", "first", "series", "1")
    assert before.take() is not None
    before.store(b"two", "second", "series", "2")
    (tmp_path / "receiving" / "9.dcm").write_bytes(b"ha")
    after = spool_of(tmp_path)
    assert after.waiting == 1
    taken = [after.take(), after.take()]
    assert [study.name for study in taken if study] == ["first", "second"]
    assert after.take() is None
    assert list((tmp_path / "receiving").iterdir()) == []


def test_a_study_that_ends_the_process_again_and_again_is_a_dead_letter(tmp_path: Path) -> None:
    """After three attempts it no longer keeps the node from working."""
    spool = spool_of(tmp_path)
    spool.store(b"one", "study", "series", "1")
    for _ in range(3):
        assert spool.take() is not None
        spool = spool_of(tmp_path)
    study = spool.take()
    assert study is not None
    assert study.fault == "the process ended 3 times while it was segmented"
    spool.bury(study, study.fault)
    assert spool.take() is None
    assert (tmp_path / "dead-letter/study/series/1.dcm").read_bytes() == b"one"


def test_dead_letters_of_one_study_do_not_replace_each_other_and_can_be_put_back(tmp_path: Path) -> None:
    """Each failure has a folder of its own, and a folder that is moved back to incoming is taken again."""
    spool = spool_of(tmp_path)
    for _ in range(2):
        spool.store(b"one", "study", "series", "1")
        study = spool.take()
        assert study is not None
        spool.bury(study, "no rule")
    assert spool.dead_letters == 2
    (tmp_path / "dead-letter/study").rename(tmp_path / "incoming/study")
    study = spool.take()
    assert study is not None
    assert study.series() == {"series": ("1",)}


def test_the_queue_and_the_folder_are_bounded(tmp_path: Path) -> None:
    """A further study is refused when as many wait as may, or when the folder has reached its size."""
    spool = spool_of(tmp_path, studies=2, size=100, quiet=3600)
    spool.store(b"x" * 60, "study", "series", "1")
    with pytest.raises(FullError, match="has reached its size"):
        spool.store(b"x" * 60, "other", "series", "1")
    assert spool.is_full
    spool.store(b"x" * 60, "study", "series", "2")  # which has begun: only when it is complete can it leave
    spool.complete("study")
    study = spool.take()
    assert study is not None
    spool.remove(study)
    assert not spool.is_full
    for name in ("one", "two"):
        spool.store(b"x", name, "series", "1")
    with pytest.raises(FullError, match="2 studies wait already"):
        spool.store(b"x", "three", "series", "1")
    assert not spool.is_full


def test_a_full_folder_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who takes dead letters away makes room."""
    monkeypatch.setattr("unetpipe.service.spool._LOOK_AGAIN_SECONDS", -1)
    spool = spool_of(tmp_path, size=100)
    spool.store(b"x" * 60, "study", "series", "1")
    study = spool.take()
    assert study is not None
    spool.bury(study, "damaged")
    with pytest.raises(FullError, match="has reached its size"):
        spool.store(b"x" * 60, "other", "series", "1")
    assert spool.take() is None
    assert spool.is_full
    shutil.rmtree(next((tmp_path / "dead-letter").iterdir()))
    assert spool.take() is None
    assert not spool.is_full
    spool.store(b"x" * 60, "other", "series", "1")


def test_what_a_file_manager_leaves_is_no_study(tmp_path: Path) -> None:
    """Of those who look into the folders of a node."""
    spool_of(tmp_path)
    for name in ("incoming", "working", "dead-letter"):
        (tmp_path / name / ".DS_Store").write_bytes(b"x")
    spool = spool_of(tmp_path)
    assert (spool.take(), spool.dead_letters, spool.waiting) == (None, 0, 0)


def test_a_study_waits_for_what_was_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of its slices would be a volume of its own; what has not come within an hour makes it a dead letter."""
    spool, write = spool_of(tmp_path), os.fsync

    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    def refuse(instance: str) -> None:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            spool.store(b"x", "study", "series", instance)
        monkeypatch.setattr(os, "fsync", write)

    spool.store(b"x", "study", "series", "1")
    refuse("2")
    refuse("1")  # sent again, though it is there
    spool.store(b"x", "other", "series", "1")
    spool.complete("study")
    other = spool.take()
    assert other is not None
    assert other.name == "other"
    assert spool.take() is None
    spool.store(b"x", "study", "series", "2")
    study = spool.take()
    assert study is not None
    assert (study.series(), study.fault) == ({"series": ("1", "2")}, "")
    spool.remove(study)
    spool.store(b"x", "study", "series", "2")
    refuse("3")
    assert spool.take() is None
    monkeypatch.setattr("unetpipe.service.spool._PATIENCE_SECONDS", 0.0)
    study = spool.take()
    assert study is not None
    assert study.fault == "instances of it were refused and did not come again: send the whole study again"


def test_only_the_owner_reads_what_was_received(tmp_path: Path) -> None:
    """Every folder has mode 0700."""
    spool = spool_of(tmp_path)
    spool.store(b"one", "study", "series", "1")
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
