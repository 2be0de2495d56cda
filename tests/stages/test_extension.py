"""A run keeps to the extension that it was started with, in every process and whenever it goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from unetpipe.config.train import TrainConfig
from unetpipe.dataset.training_set import read_training_set
from unetpipe.errors import TrainingError
from unetpipe.stages.train import train
from unetpipe.training.checkpoint import load_checkpoint
from unetpipe.training.run_identity import RunIdentity

SLOW_SGD = """
import os
from pathlib import Path

import torch

from unetpipe import register

Path(__file__).with_name(f"imported_by_{os.environ.get('RANK', '0')}").touch()


@register("optimizer", "test_slow_sgd")
def slow_sgd(params, lr=1e-4, weight_decay=0.0):
    return torch.optim.SGD(params, lr=lr, weight_decay=weight_decay)
"""


@pytest.fixture
def extension(tmp_path: Path) -> Path:
    """A file that registers an optimiser, and notes which processes imported it."""
    file = tmp_path / "own" / "slow_sgd.py"
    file.parent.mkdir()
    file.write_text(SLOW_SGD)
    return file


def test_a_run_goes_on_with_the_extension_it_began_with(work: Path, extension: Path) -> None:
    """Its name is kept and not its path; without it, or after an edit, the run is not continued."""
    common = {"work": work, "device": "cpu", "precision": "fp32", "epochs": 1, "iterations": 2, "tracking": "none"}
    config = TrainConfig.model_validate(common | {"optimizer": "test_slow_sgd", "extension": [str(extension)]})
    result = train(config)
    assert train(config) == result
    kept = yaml.safe_load((result.bundle / "config.yaml").read_text())
    assert kept["extension"] == ["slow_sgd.py"]
    assert str(extension.parent) not in repr(load_checkpoint(result.bundle))
    with pytest.raises(TrainingError, match="--extension was"):
        train(config.model_copy(update={"extension": ()}))
    extension.write_text(SLOW_SGD.replace("1e-4", "1e-3"))
    with pytest.raises(TrainingError, match=r"extension slow_sgd\.py has changed"):
        train(config)


def test_extensions_of_one_name_are_told_apart(work: Path, extension: Path, tmp_path: Path) -> None:
    """A run that goes on notices an edit of either."""
    other = tmp_path / "another" / extension.name
    other.parent.mkdir()
    other.write_text("# nothing\n")
    data = read_training_set(work, 0, None)
    config = TrainConfig.model_validate({"work": work, "extension": [str(extension), str(other)]})
    before = RunIdentity.of(config, data)
    extension.write_text(SLOW_SGD.replace("1e-4", "1e-3"))
    assert before.changes(RunIdentity.of(config, data)) == [f"extension {extension.name} has changed"]


@pytest.mark.slow
def test_every_process_of_a_training_imports_it(work: Path, extension: Path) -> None:
    """Processes that share each batch are started with the same option, and it may be a relative path."""
    options = ["--device", "cpu", "--gpus", "2", "--epochs", "1", "--iterations", "2", "--tracking", "none", "--json"]
    command = [sys.executable, "-m", "unetpipe", "train", str(work), *options]
    command += ["--optimizer", "test_slow_sgd", "--extension", "own/slow_sgd.py"]
    done = subprocess.run(command, cwd=extension.parents[1], capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(done.stdout)["iterations"] == 2
    assert {path.name for path in extension.parent.glob("imported_by_*")} == {"imported_by_0", "imported_by_1"}
