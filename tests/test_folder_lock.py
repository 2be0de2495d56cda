"""One command at a time holds a folder."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unetpipe import folder_lock
from unetpipe.errors import UnetpipeError
from unetpipe.folder_lock import LEASE_SECONDS, Claim, Holder, claimed

HELD = """
import sys, time
from pathlib import Path
from unetpipe.folder_lock import claimed
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
    monkeypatch.setattr(folder_lock, "_RENEWAL_SECONDS", 0.2)


def holds(folder: Path) -> bool:
    """Whether a further process could take the folder."""
    claim = Claim(folder, "it", Holder.this_process({}))
    try:
        claim.take()
    except UnetpipeError:
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
    """After the block, and nothing is left but what was written into it."""
    further = Claim(tmp_path / "fold_0", "it", Holder.this_process({}))
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    with claimed(tmp_path / "fold_0"), pytest.raises(UnetpipeError, match=rf"^it is in use by {holder}$"):
        further.take()
    assert not (tmp_path / "fold_0").exists()
    with claimed(tmp_path / "fold_0"):
        (tmp_path / "fold_0" / "a").touch()
    assert holds(tmp_path / "fold_0")
    assert [path.name for path in (tmp_path / "fold_0").iterdir()] == ["a"]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_sign_of_life_holds_a_folder(tmp_path: Path) -> None:
    """As long as the lock file is renewed; one that was not for two minutes is nobody's any more."""
    dead = Claim(tmp_path, "it", Holder.this_process({}))
    dead.take()
    assert not holds(tmp_path)
    old = (tmp_path / ".lock").stat().st_mtime - LEASE_SECONDS - 1
    os.utime(tmp_path / ".lock", (old, old))
    dead.renew()
    assert not holds(tmp_path)
    os.utime(tmp_path / ".lock", (old, old))
    living = Claim(tmp_path, "it", Holder.this_process({}))
    living.take()
    with pytest.raises(UnetpipeError, match=rf"it was taken by process {os.getpid()} on"):
        dead.require()
    living.release()
    assert holds(tmp_path)


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_that_jumps_takes_no_folder_from_a_living_process(tmp_path: Path, jump: float) -> None:
    """Its time stamp is far away, but it is renewed; that of a dead process is not."""
    with claimed(tmp_path):
        stamp = (tmp_path / ".lock").stat().st_mtime + jump
        os.utime(tmp_path / ".lock", (stamp, stamp))
        assert not holds(tmp_path)
    dead = Claim(tmp_path, "it", Holder.this_process({}))
    dead.take()
    os.utime(tmp_path / ".lock", (stamp, stamp))
    assert holds(tmp_path)


@pytest.mark.parametrize("locks", [True, False])
def test_a_requeued_job_takes_the_folder_from_its_earlier_start(
    tmp_path: Path, locks: bool, request: pytest.FixtureRequest
) -> None:
    """Which lives on, and finds out before it writes; another job, and the earlier start itself, cannot take it."""
    if not locks:
        request.getfixturevalue("no_locks")
    first = Claim(tmp_path, "it", Holder.this_process({"SLURM_JOB_ID": "7"}))
    first.take()
    with pytest.raises(UnetpipeError, match="in use by process"):
        Claim(tmp_path, "it", Holder.this_process({"SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"})).take()
    second = Claim(tmp_path, "it", Holder.this_process({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}))
    second.take()
    second.require()
    with pytest.raises(UnetpipeError, match=r"it was taken by process .*, Slurm's job 7: this one stops"):
        first.require()
    first.renew()
    first.release()
    second.require()
    with pytest.raises(UnetpipeError, match="in use by process"):
        Claim(tmp_path, "it", Holder.this_process({"SLURM_JOB_ID": "7"})).take()
    second.release()
    assert holds(tmp_path)


def test_a_lock_file_of_an_earlier_version_is_no_hindrance(tmp_path: Path) -> None:
    """It is empty, and stays when its training has ended."""
    (tmp_path / ".lock").touch()
    assert holds(tmp_path)
