"""Training as processes: signals end them with a code, and several start, stop and end together."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from unetpipe.config import TrainConfig
from unetpipe.stages.train import train
from unetpipe.training.checkpoint import load_checkpoint
from unetpipe.training.distributed import RankDiedError, free_port

pytestmark = pytest.mark.slow


class KillsAnotherRank(logging.Handler):
    """Kills the process that was started after the first epoch."""

    killed = 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("epoch 1") and not self.killed:
            (other,) = (process for process in psutil.Process().children() if "train" in process.cmdline())
            other.kill()
            self.killed = other.pid


def test_a_killed_process_ends_the_others_and_training_goes_on_later(
    work: Path, request: pytest.FixtureRequest, logged: list[str]
) -> None:
    """The first one says so at once and leaves no process behind; the same call again ends as it should."""
    config = TrainConfig(work=work, device="cpu", precision="fp32", gpus=2, epochs=3, iterations=2)
    killer = KillsAnotherRank()
    package = logging.getLogger("unetpipe")
    package.addHandler(killer)
    request.addfinalizer(lambda: package.removeHandler(killer))
    with pytest.raises(RankDiedError, match="the same command goes on"):
        train(config)
    assert logged
    assert killer.killed
    assert not psutil.pid_exists(killer.killed)
    result = train(config)
    assert result.iterations == 6
    rows = [json.loads(line) for line in (result.bundle / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [2, 4, 6]
    assert [process for process in psutil.Process().children() if "train" in process.cmdline()] == []


def after_an_epoch(work: Path, *options: str) -> subprocess.Popen[bytes]:
    """The command, from its start to the end of its first epoch."""
    common = ["--device", "cpu", "--precision", "fp32", "--epochs", "500", "--iterations", "2"]
    journal = work / "runs" / "default" / "fold_0" / "metrics.jsonl"
    before = journal.read_text() if journal.is_file() else ""
    command = [sys.executable, "-m", "unetpipe", "train", str(work), *common, *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not journal.is_file() or journal.read_text() == before:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process


def test_signals_end_a_training_with_the_documented_code(work: Path) -> None:
    """SIGUSR1, and in the run that goes on from there Ctrl-C: exit code 130, and the checkpoint has all epochs."""
    for number in (signal.SIGUSR1, signal.SIGINT):
        process = after_an_epoch(work)
        process.send_signal(number)
        assert process.wait(60) == 130
    folder = work / "runs" / "default" / "fold_0"
    state = load_checkpoint(folder)
    assert state is not None
    assert len(state.history) == len((folder / "metrics.jsonl").read_text().splitlines()) >= 2


def test_signals_stop_both_and_a_killed_first_one_leaves_no_other(work: Path) -> None:
    """SIGTERM to the started process: both save and end, code 130. Then kill the first: the other ends by itself."""
    first, other = with_its_other(after_an_epoch(work, "--gpus", "2"))
    other.send_signal(signal.SIGTERM)
    assert first.wait(60) == 130
    first, other = with_its_other(after_an_epoch(work, "--gpus", "2"))
    first.kill()
    first.wait(60)
    other.wait(60)


def with_its_other(first: subprocess.Popen[bytes]) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A training and the process that it started."""
    (other,) = (process for process in psutil.Process(first.pid).children() if "train" in process.cmdline())
    return first, other


def test_processes_that_torchrun_started(work: Path) -> None:
    """With RANK and WORLD_SIZE set both train; the first one alone prints the result."""
    options = ["--device", "cpu", "--precision", "fp32", "--epochs", "1", "--iterations", "2", "--json"]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "unetpipe", "train", str(work), *options],
            env=os.environ | place | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert json.loads(first)["iterations"] == 2
    assert second == ""
