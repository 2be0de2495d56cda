"""Training as processes: signals end them with a code, and several start, stop and end together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from unetpipe.config.train import TrainConfig
from unetpipe.stages.train import TrainResult, train
from unetpipe.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

UNETPIPE = ("-m", "unetpipe")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1", *UNETPIPE)


def journal(work: Path) -> list[dict[str, Any]]:
    path = work / "runs" / "default" / "fold_0" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def start(
    work: Path, *options: str, through: Sequence[str] = UNETPIPE, epochs: int = 500, **environment: str
) -> subprocess.Popen[str]:
    """Start the command."""
    values = {"device": "cpu", "precision": "fp32", "epochs": epochs, "iterations": 2, "tracking": "none"}
    given = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, *through, "train", str(work), *given, *options],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_an_epoch(work: Path, process: subprocess.Popen[str]) -> None:
    """Return when one more epoch has ended than before."""
    before, deadline = len(journal(work)), time.monotonic() + 300
    while len(journal(work)) == before:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def rank_of(process: subprocess.Popen[str], rank: int) -> psutil.Process:
    """The process of a rank, among those that a command has started."""
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.environ().get("RANK") == str(rank):
            return child
    raise AssertionError(f"there is no rank {rank}")


def test_two_processes_train_the_run_of_one(work: Path) -> None:
    """The same losses and Dice in every epoch, and the same figures and labels of the held-out cases in the end.

    The steps are small, because larger ones amplify differences of rounding, of one thread from two as well, until
    they hide a difference of the arithmetic.
    """
    options = {"device": "cpu", "precision": "fp32", "epochs": 3, "iterations": 4, "tracking": "none"}
    options |= {"optimizer": "sgd", "learning_rate": 1e-3}
    alone = train(TrainConfig(work=work, run_name="alone", **options))
    shared = train(TrainConfig(work=work, gpus=2, **options))
    assert isinstance(alone, TrainResult)
    assert isinstance(shared, TrainResult)
    lines = (alone.bundle / "metrics.jsonl").read_text().splitlines()
    for one, two in zip(map(json.loads, lines), journal(work), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
        assert two["dice"] == pytest.approx(one["dice"], abs=0.01)
    assert shared.dice == pytest.approx(alone.dice, abs=0.01)
    assert shared.iterations == alone.iterations == 12  # which cases count may hang on a rounding: post-processing
    names = [sorted(path.name for path in (result.bundle / "validation").iterdir()) for result in (alone, shared)]
    assert names[0] == names[1]


def test_signals_end_a_training_with_the_documented_code(work: Path) -> None:
    """SIGUSR1, and in the run that goes on from there Ctrl-C: exit code 130, and the checkpoint has all epochs."""
    for number in (signal.SIGUSR1, signal.SIGINT):
        process = start(work)
        wait_for_an_epoch(work, process)
        process.send_signal(number)
        process.communicate(timeout=120)
        assert process.returncode == 130
    state = load_checkpoint(work / "runs" / "default" / "fold_0")
    assert state is not None
    assert len(state.history) == len(journal(work)) >= 2


def test_a_signal_stops_all_processes(work: Path) -> None:
    """SIGUSR2 to the command, and in the run that goes on from there SIGTERM to the second process: all is saved."""
    process = start(work, "--gpus", "2")
    wait_for_an_epoch(work, process)
    process.send_signal(signal.SIGUSR2)
    process.communicate(timeout=120)
    assert process.returncode == 130
    process = start(work, "--gpus", "2")
    wait_for_an_epoch(work, process)
    rank_of(process, 1).send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "goes on after epoch" in said
    state = load_checkpoint(work / "runs" / "default" / "fold_0")
    assert state is not None
    assert len(state.history) == len(journal(work)) >= 2


def test_a_killed_process_ends_the_others(work: Path) -> None:
    """One line says which one was killed, and none of the processes is left."""
    process = start(work, "--gpus", "2")
    wait_for_an_epoch(work, process)
    ranks = [rank_of(process, rank) for rank in (0, 1)]
    ranks[1].kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        "error: process 1 of this training was killed by SIGKILL: the same command goes on"
    )
    assert not any(rank.is_running() for rank in ranks)


def test_an_error_before_the_first_step_is_one_line(work: Path) -> None:
    """That of the processes, not of the launcher."""
    process = start(work, "--gpus", "2", "--fold", "9")
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (1, "error: fold must be from 0 to 2, got 9\n")


def test_torchrun_restarts_from_the_checkpoint(work: Path) -> None:
    """A killed process, and `--max-restarts`: the training goes on, and only the first process prints the result."""
    process = start(work, "--json", through=TORCHRUN, epochs=12)
    wait_for_an_epoch(work, process)
    rank_of(process, 1).kill()
    result, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert json.loads(result)["iterations"] == 24
    assert said.count("run default/fold_0 goes on after epoch") == 1
    assert [row["iteration"] for row in journal(work)] == list(range(2, 25, 2))


def test_a_process_with_other_options_is_refused(work: Path) -> None:
    """On both sides, before the first step, with what differs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = [start(work, "--seed", str(rank), RANK=str(rank), **place) for rank in (0, 1)]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 1
        assert said == "error: process 1 of this training has --seed 1 and not 0\n"
    assert not (work / "runs").exists()
