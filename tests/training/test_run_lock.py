"""One training at a time holds a run's folder."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unetpipe.errors import TrainingError
from unetpipe.training.run_lock import LEASE_SECONDS, Claim, Holder, claimed

HELD = """
import sys, time
from pathlib import Path
from unetpipe.training.run_lock import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no flock, as some that nodes share."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def holds(folder: Path) -> bool:
    """Whether a further process could train in the folder."""
    claim = Claim(folder, Holder.this_process({}))
    try:
        claim.take()
    except TrainingError:
        return False
    claim.release()
    return True


def test_a_killed_process_leaves_the_folder_at_once(tmp_path: Path) -> None:
    """A lock of the file system ends with its process, however that ended."""
    process = subprocess.Popen([sys.executable, "-c", HELD, str(tmp_path / "fold_0")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert not holds(tmp_path / "fold_0")
    process.kill()
    process.wait()
    assert holds(tmp_path / "fold_0")


def test_a_folder_is_given_back(tmp_path: Path) -> None:
    """After the block, and nothing but the folder is left."""
    further = Claim(tmp_path / "fold_0", Holder.this_process({}))
    with claimed(tmp_path / "fold_0"), pytest.raises(TrainingError, match=r"^run .*/fold_0 is being trained by anoth"):
        further.take()
    assert holds(tmp_path / "fold_0")
    assert list((tmp_path / "fold_0").iterdir()) == []


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_sign_of_life_holds_a_folder(tmp_path: Path) -> None:
    """As long as the lock file is renewed; one that was not for two minutes is nobody's any more."""
    with claimed(tmp_path) as claim:
        assert not holds(tmp_path)
        old = (tmp_path / ".lock").stat().st_mtime - LEASE_SECONDS - 1
        os.utime(tmp_path / ".lock", (old, old))
        claim.renew()
        assert not holds(tmp_path)
        os.utime(tmp_path / ".lock", (old, old))
        assert holds(tmp_path)
        with pytest.raises(TrainingError, match="now trained by another process"):
            claim.require()
    assert holds(tmp_path)


@pytest.mark.parametrize("locks", [True, False])
def test_a_requeued_job_takes_the_folder_from_its_earlier_start(
    tmp_path: Path, locks: bool, request: pytest.FixtureRequest
) -> None:
    """Which lives on, and finds out before it writes; another job, and the earlier start itself, cannot take it."""
    if not locks:
        request.getfixturevalue("no_locks")
    first = Claim(tmp_path, Holder.this_process({"SLURM_JOB_ID": "7"}))
    first.take()
    with pytest.raises(TrainingError, match="by another process"):
        Claim(tmp_path, Holder.this_process({"SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"})).take()
    second = Claim(tmp_path, Holder.this_process({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}))
    second.take()
    second.require()
    with pytest.raises(TrainingError, match="now trained by another process: this one stops"):
        first.require()
    first.renew()
    first.release()
    second.require()
    with pytest.raises(TrainingError, match="by another process"):
        Claim(tmp_path, Holder.this_process({"SLURM_JOB_ID": "7"})).take()
    second.release()
    assert holds(tmp_path)


def test_a_lock_file_of_an_earlier_version_is_no_hindrance(tmp_path: Path) -> None:
    """It is empty, and stays when its training has ended."""
    (tmp_path / ".lock").touch()
    assert holds(tmp_path)
