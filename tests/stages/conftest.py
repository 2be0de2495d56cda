"""A small dataset that a network learns in seconds."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


def write_balls(folder: Path, cases: int = 6, size: int = 20) -> Path:
    """Write an MSD folder: a bright ball and a dark one, of varying place and size, in noise."""
    rng = np.random.default_rng(0)
    axes = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)
    training = []
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in range(cases):
        image = rng.normal(100, 5, (size,) * 3)
        label = np.zeros((size,) * 3, np.uint8)
        for value, (low, high) in enumerate([(5, 8), (12, 15)], start=1):
            ball = np.linalg.norm(axes - rng.uniform(low, high, 3), axis=-1) < rng.uniform(3.5, 4.5)
            image[ball] += 60 if value == 1 else -60
            label[ball] = value
        for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1.0, 1.0, 1.0])), folder / part / f"ball_{case}.nii.gz")
        training.append({"image": f"./imagesTr/ball_{case}.nii.gz", "label": f"./labelsTr/ball_{case}.nii.gz"})
    dataset = {
        "name": "Balls",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "bright", "2": "dark"},
        "numTraining": cases,
        "training": training,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset."""
    return write_balls(tmp_path_factory.mktemp("balls"))


@pytest.fixture(scope="session")
def _balls_work(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from unetpipe.config import PreprocessConfig
    from unetpipe.stages.preprocess import preprocess

    out = tmp_path_factory.mktemp("work") / "balls"
    preprocess(PreprocessConfig(dataset=balls, out=out, preview=False, folds=3))
    return out


@pytest.fixture
def work(_balls_work: Path, tmp_path: Path) -> Path:
    """The dataset preprocessed, with a small network planned; a copy to train in."""
    import shutil

    import yaml

    out = Path(shutil.copytree(_balls_work, tmp_path / "work"))
    plan = yaml.safe_load((out / "plan.yaml").read_text())
    configuration = plan["configurations"]["3d_fullres"]
    configuration["features"] = [8, 16, 32, 64][: len(configuration["features"])]
    configuration["batch_size"] = 2
    (out / "plan.yaml").write_text(yaml.safe_dump(plan))
    return out


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make SIGTERM reach this process while it learns from batches of these numbers, once each."""
    from unetpipe.training.batches.loader import Batch
    from unetpipe.training.optimization.learner import Learner

    step, waiting = Learner.step, set[int]()

    def stopping(self: Learner, batch: Batch, *args: object) -> object:
        if batch.number in waiting:
            waiting.remove(batch.number)
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "step", stopping)
    return lambda *numbers: waiting.update(numbers)
