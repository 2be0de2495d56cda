"""Checkpoints survive damage, carry no code, and are read whichever version wrote them."""

import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from unetpipe.errors import TrainingError
from unetpipe.training.checkpoint import CHECKPOINT, PREVIOUS, load_checkpoint, save_checkpoint
from unetpipe.training.epoch import Epoch
from unetpipe.training.outcome import TrainingOutcome
from unetpipe.training.run_identity import RunIdentity
from unetpipe.training.schedule import Budget, Cooldown
from unetpipe.training.state import EpochRecord, RunState

RECORD = EpochRecord(
    epoch=0,
    iteration=2,
    loss=1.5,
    learning_rate=0.005,
    dice=(0.5, None),
    smoothed_dice=0.5,
    seconds=1.0,
    patches_per_second=4.0,
    data_wait=0.25,
    memory_gb=1.0,
    system={"system/cpu_utilization_percentage": 50.0},
)
OUTCOME = TrainingOutcome(
    epochs=1,
    iterations=2,
    seconds=9.0,
    features=(8, 16),
    weights="best",
    dice={"bright": 0.5, "dark": None},
    mean_dice=0.5,
    cases=1,
    unseen=True,
)


def state(iteration: int = 3, **more: Any) -> RunState:
    return RunState(
        identity=RunIdentity(options={"deploy": "best", "seed": 1}, digests={"plan.yaml": "abc"}),
        definition={"_target_": "monai.networks.nets.UNet"},
        budget=Budget(epochs=5, iterations=2, batch_size=2, seconds=None, recipe="muon"),
        iteration=iteration,
        history=[RECORD],
        cut_epoch=Epoch(losses=(1.25,), learning_rate=0.004, seconds=0.5, waited=0.1),
        cooldown=Cooldown(iteration=2, progress=0.2, steps=4),
        best={"weight": torch.ones(2)},
        tracking_run="f" * 32,
        learner={"module": {"weight": torch.zeros(2)}},
        **more,
    )


def assert_same(one: RunState, other: RunState) -> None:
    """Tensors have no plain equality, so weights are compared apart."""
    for name in ("identity", "definition", "budget", "iteration", "seconds", "history", "cut_epoch", "cooldown"):
        assert getattr(one, name) == getattr(other, name)
    assert (one.tracking_run, one.outcome) == (other.tracking_run, other.outcome)
    assert one.best is not None
    assert other.best is not None
    assert torch.equal(one.best["weight"], other.best["weight"])
    assert torch.equal(one.learner["module"]["weight"], other.learner["module"]["weight"])


@pytest.mark.parametrize("outcome", [None, OUTCOME])
def test_what_is_loaded_is_what_was_saved(tmp_path: Path, outcome: TrainingOutcome | None) -> None:
    """Every part of a run's state, each of its own type."""
    save_checkpoint(tmp_path, state(outcome=outcome))
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert_same(loaded, state(outcome=outcome))


@pytest.mark.parametrize("cooldown", ["cooldown", "landing"])
def test_checkpoints_without_a_version_are_read(tmp_path: Path, cooldown: str) -> None:
    """The two forms that came before: the early end had two names, and best weights were in a file of their own."""
    record = {**vars(RECORD), "dice": [0.5, None]}
    result = {**OUTCOME.model_dump(mode="json", exclude={"unseen"}), "blind": True, "fold": 0, "tracking_run": "f" * 32}
    before = {
        "config": {"deploy": "best", "seed": 1},
        "made_from": {"plan.yaml": "abc"},
        "definition": {"_target_": "monai.networks.nets.UNet"},
        "budget": {"epochs": 5, "iterations": 2, "batch_size": 2, "seconds": None, "recipe": "muon"},
        "part": {"losses": (1.25,), "learning_rate": 0.004, "seconds": 0.5, "waited": 0.1, "over": True},
        cooldown: {"iteration": 2, "progress": 0.2, "steps": 4},
        "epoch": 1,
        "iteration": 3,
        "seconds": 0.0,
        "history": [record],
        "tracking_run": "f" * 32,
        "learner": {"module": {"weight": torch.zeros(2)}},
        "result": result,
    }
    torch.save(before, tmp_path / CHECKPOINT)
    torch.save({"weight": torch.ones(2)}, tmp_path / "best.pt")
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert_same(loaded, state(outcome=OUTCOME))


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    """One line, and not a key that is missing."""
    torch.save({"schema_version": 99}, tmp_path / CHECKPOINT)
    with pytest.raises(TrainingError, match="written by a later version"):
        load_checkpoint(tmp_path)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    """Cut off in the middle, the last one is passed over."""
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    newest = load_checkpoint(tmp_path)
    assert newest is not None
    assert newest.iteration == 2
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:100])
    older = load_checkpoint(tmp_path)
    assert older is not None
    assert older.iteration == 1
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(TrainingError, match="no checkpoint"):
        load_checkpoint(tmp_path)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    """A new run starts from nothing."""
    assert load_checkpoint(tmp_path / "absent") is None


def test_a_disk_that_fails_leaves_the_checkpoint_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before goes only when the new one is on the disk: it may be the only one that is whole."""

    def failing(_: int) -> NoReturn:
        raise OSError(errno.EIO, "input or output error")

    for _ in range(2):
        save_checkpoint(tmp_path, state())
    (tmp_path / CHECKPOINT).write_bytes(b"cut off")
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="input or output"):
        save_checkpoint(tmp_path, state(4))
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.iteration == 3
