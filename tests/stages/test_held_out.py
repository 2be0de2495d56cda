"""What training reports of its held-out cases is what the bundle does to them afterwards."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.infer import InferConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import read_folds
from unetpipe.dataset.manifest import read_manifest
from unetpipe.imaging.files import read_volume
from unetpipe.stages.evaluate import evaluate
from unetpipe.stages.infer import infer
from unetpipe.stages.preprocess import preprocess
from unetpipe.stages.train import train
from unetpipe.training import held_out_prediction


@pytest.mark.parametrize("reduced", [False, True], ids=["as found", "largest component"])
def test_the_reported_dice_is_that_of_infer_and_evaluate(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reduced: bool
) -> None:
    """Same labels voxel by voxel, and so the same Dice, of scans that are resampled, post-processed or not."""
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=balls, out=work, preview=False, folds=2, spacing_mm=(1.2, 1.0, 0.9)))
    _plan_small(work)
    monkeypatch.setattr(held_out_prediction, "classes_to_reduce", lambda _gains: [1] if reduced else [])
    result = train(TrainConfig(work=work, device="cpu", precision="fp32", epochs=3, iterations=16))
    assert all(dice is not None and 0 < dice < 1 for dice in result.dice.values())
    assert (result.cases, result.unseen) == ((1, True) if reduced else (3, True))  # what decided is left out

    held_out = read_folds(work).folds[0].validation
    scans = tuple(path for case in read_manifest(work).cases if case.id in held_out for path in case.images)
    out = tmp_path / "labels"
    infer(InferConfig(models=(result.bundle,), inputs=scans, out=out, device="cpu", precision="fp32"))
    for case in held_out:
        ours, theirs = (read_volume(folder / f"{case}.nii.gz") for folder in (result.bundle / "validation", out))
        np.testing.assert_array_equal(ours.array, theirs.array)
        assert ours.grid == theirs.grid
    evaluate(EvaluateConfig(predictions=(out,), work=work, fold=0, out=tmp_path / "report", report=False))
    with (tmp_path / "report" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not reduced or row["case"] in held_out[1::2]]
    for name, dice in result.dice.items():
        of_class = [float(row["dice"]) for row in rows if row["class"] == name]
        assert np.mean(of_class) == pytest.approx(dice, abs=1e-6)


def _plan_small(work: Path) -> None:
    plan = yaml.safe_load((work / "plan.yaml").read_text())
    configuration = plan["configurations"]["3d_fullres"]
    configuration["features"] = [8, 16, 32, 64][: len(configuration["features"])]
    configuration["batch_size"] = 2
    (work / "plan.yaml").write_text(yaml.safe_dump(plan))
