"""A real Slurm, started on this machine."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_COMMANDS = ("sbatch", "slurmctld", "munged")
_ACCOUNTING = ("slurmdbd", "mariadbd")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _installed(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin") is not None


@pytest.fixture(scope="session")
def _slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster of three nodes with two cores each, with accounting where it is installed, until all tests are over."""
    tools = Path(__file__).parent / "slurm"
    absent = [name for name in _COMMANDS if not _installed(name)]
    if absent or os.geteuid() != 0:
        pytest.skip(f"starting Slurm needs root and {', '.join(absent) or 'nothing else'}")
    root = tmp_path_factory.mktemp("slurm")
    ports = {name: str(_free_port()) for name in ("CTLPORT", "NDPORT", "DBDPORT", "SQLPORT")}
    settings = {"NODES": "3", "MODE": "multi", "GRACE": "60", "ACCT": str(int(all(map(_installed, _ACCOUNTING))))}
    environment = {**os.environ, "ROOT": str(root), **settings, **ports}
    try:
        subprocess.run([tools / "up.sh"], env=environment, check=True, timeout=300, stdout=subprocess.DEVNULL)
        yield root / "slurm.conf"
    finally:
        subprocess.run([tools / "down.sh"], env=environment, check=False, timeout=300)


@pytest.fixture
def slurm(_slurm: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its configuration, to which Slurm's commands are pointed."""
    monkeypatch.setenv("SLURM_CONF", str(_slurm))
    return _slurm


@pytest.fixture
def user_signal(slurm: Path) -> Iterator[Callable[[bool], None]]:
    """Let Slurm send the signal that a job asks for before it preempts it, as at first, or SIGTERM instead."""
    text = slurm.read_text()

    def choose(sent: bool) -> None:
        new = slurm.with_suffix(".new")
        new.write_text(text if sent else text.replace("SlurmctldParameters=preempt_send_user_signal\n", ""))
        new.replace(slurm)  # at once: nodes that are still reading it after the last change end if they find it empty
        subprocess.run(["scontrol", "reconfigure"], check=True)

    yield choose
    choose(True)


@pytest.fixture
def preempt() -> Callable[[], None]:
    """Let a job of higher priority take node n1 for a second."""
    take = ["sbatch", "--partition=urgent", "--nodelist=n1", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1"]

    def submit() -> None:
        subprocess.run(take, check=True, stdout=subprocess.DEVNULL)

    return submit


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait until something is so, at most for some minutes."""

    def wait(done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 300
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    return wait
