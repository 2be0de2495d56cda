"""A real Slurm, started on this machine."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_COMMANDS = ("sbatch", "slurmctld", "munged")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def _slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster of two nodes with two cores each, for the time of these tests."""
    tools = Path(__file__).parent / "slurm"
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    absent = [name for name in _COMMANDS if not shutil.which(name, path=path)]
    if absent or os.geteuid() != 0:
        pytest.skip(f"starting Slurm needs root and {', '.join(absent) or 'nothing else'}")
    root = tmp_path_factory.mktemp("slurm")
    ports = {name: str(_free_port()) for name in ("CTLPORT", "NDPORT")}
    environment = {**os.environ, "ROOT": str(root), "NODES": "2", "ACCT": "0", "MODE": "multi", "GRACE": "60", **ports}
    try:
        subprocess.run([tools / "up.sh"], env=environment, check=True, timeout=90, stdout=subprocess.DEVNULL)
        yield root / "slurm.conf"
    finally:
        subprocess.run([tools / "down.sh"], env=environment, check=False, timeout=90)


@pytest.fixture
def slurm(_slurm: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its configuration, to which Slurm's commands are pointed."""
    monkeypatch.setenv("SLURM_CONF", str(_slurm))
    return _slurm
