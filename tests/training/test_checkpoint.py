"""Checkpoints survive damage and carry no code."""

from pathlib import Path

import pytest
import torch

from unetpipe.errors import TrainingError
from unetpipe.training.checkpoint import CHECKPOINT, PREVIOUS, load_checkpoint, save_checkpoint


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    """Cut off in the middle, the last one is passed over."""
    save_checkpoint(tmp_path, {"iteration": 1, "weights": torch.ones(3)})
    save_checkpoint(tmp_path, {"iteration": 2, "weights": torch.ones(3)})
    newest = load_checkpoint(tmp_path)
    assert newest is not None
    assert newest["iteration"] == 2
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:100])
    older = load_checkpoint(tmp_path)
    assert older is not None
    assert older["iteration"] == 1
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(TrainingError, match="no checkpoint"):
        load_checkpoint(tmp_path)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    """A new run starts from nothing."""
    assert load_checkpoint(tmp_path / "absent") is None
