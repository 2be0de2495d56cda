"""Training from preprocessed cases to a bundle."""

import json
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from unetpipe.config import TrainConfig
from unetpipe.errors import TrainingError
from unetpipe.model.learner import Learner
from unetpipe.stages.train import TrainResult, train


def run(work: Path, **options: object) -> TrainResult:
    values = {"work": work, "device": "cpu", "precision": "fp32", "epochs": 2, "iterations": 2} | options
    return train(TrainConfig.model_validate(values))


def weights(bundle: Path) -> dict[str, torch.Tensor]:
    return torch.load(bundle / "models" / "model.pt", weights_only=True)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "expected"), [("dynunet", 0.85), ("unet", 0.85)])
def test_learns(work: Path, network: str, expected: float) -> None:
    """Two balls in noise are found after a hundred steps, in either network."""
    result = run(work, network=network, epochs=5, iterations=24, precision="auto")
    assert result.mean_dice is not None
    assert result.mean_dice > expected
    labels = sorted(path.name for path in (result.bundle / "validation").iterdir())
    folds = json.loads((work / "folds.json").read_text())["folds"]
    assert labels == [f"{case}.nii.gz" for case in folds[0]["validation"]]


def test_result_is_a_bundle_with_its_journal(work: Path) -> None:
    """Everything is there: configs, weights, card with the figures, curves, overlay, one line per epoch."""
    result = run(work, epochs=2)
    names = {str(path.relative_to(result.bundle)) for path in result.bundle.rglob("*") if path.is_file()}
    assert {
        "LICENSE",
        "checkpoint.pt",
        "config.yaml",
        "configs/inference.json",
        "configs/logging.conf",
        "configs/metadata.json",
        "curves.png",
        "docs/README.md",
        "metrics.jsonl",
        "models/model.pt",
        "overlay.png",
    } <= names
    rows = [json.loads(line) for line in (result.bundle / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert rows[1]["iteration"] == result.iterations == 4
    assert "| bright |" in (result.bundle / "docs" / "README.md").read_text()


def test_stopped_and_resumed_equals_undisturbed(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal after the third step, then --resume: the same weights bit for bit."""
    undisturbed = run(work, run_name="undisturbed", epochs=3)
    step = Learner.step

    def stopping(self: Learner, batch: object, *args: object) -> object:
        if batch.number == 2:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(work, run_name="stopped", epochs=3)
    with pytest.raises(TrainingError, match="--resume"):
        run(work, run_name="stopped", epochs=3)
    resumed = run(work, run_name="stopped", epochs=3, resume=True)
    assert resumed.iterations == undisturbed.iterations == 6
    before, after = weights(undisturbed.bundle), weights(resumed.bundle)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_minutes_are_kept(work: Path) -> None:
    """A budget of ten seconds ends by the clock, with at least one epoch, and the schedule went to its end."""
    before = time.monotonic()
    result = run(work, epochs=None, iterations=250, max_minutes=20 / 60)
    assert time.monotonic() - before < 30
    rows = [json.loads(line) for line in (result.bundle / "metrics.jsonl").read_text().splitlines()]
    assert result.epochs == len(rows) >= 1
    assert rows[-1]["learning_rate"] < rows[0]["learning_rate"]


def test_tracking_holds_curves_and_no_person(work: Path) -> None:
    """MLflow has config, digests, figures per epoch and pictures; user and paths are nowhere."""
    result = run(work)
    with sqlite3.connect(work / "mlflow.db") as database:
        query = database.execute
        metrics = {row[0] for row in query("select key from metrics")}
        params = dict(query("select key, value from params").fetchall())
        tags = dict(query("select key, value from tags").fetchall())
        (status, user) = query("select status, user_id from runs").fetchone()
    assert {"loss", "learning_rate", "dice/bright", "dice/dark", "final_dice/bright", "duration_seconds"} <= metrics
    assert params["config.seed"] == "0"
    assert {"dataset", "plan", "unetpipe"} <= tags.keys()
    assert status == "FINISHED"
    assert user in (None, "unknown", "")
    everything = " ".join([*params.values(), *tags.values()])
    assert str(work) not in everything
    artifacts = {path.name for path in (work / "mlartifacts").rglob("*") if path.is_file()}
    assert artifacts == {"curves.png", "overlay.png", "config.yaml"}
    state = torch.load(result.bundle / "checkpoint.pt", weights_only=True)
    state.pop("learner")
    assert str(work) not in repr(state)
    spec = json.loads((result.bundle / "configs" / "metadata.json").read_text())["unetpipe"]
    assert spec["tracking_run"] == result.tracking_run
    assert result.tracking_run is not None


def test_training_goes_on_without_its_tracking_store(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that refuses every call costs one line, not the run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{work}/nowhere")
    assert run(work, epochs=1).tracking_run is None


def test_a_broken_case_is_named(work: Path) -> None:
    """A truncated array stops training with the case's id, and no thread stays behind."""
    folds = json.loads((work / "folds.json").read_text())["folds"]
    for case in folds[0]["train"]:
        path = work / "cases" / "3d_fullres" / f"{case}.b2nd"
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(TrainingError, match=r"ball_\d: preprocessed case cannot be read"):
        run(work)
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("patches") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a loader thread is still there"
        time.sleep(0.05)


def test_a_label_in_another_axis_order_counts_the_same(work: Path, tmp_path: Path) -> None:
    """The held-out label rewritten with permuted and flipped axes, same voxels: the same final Dice."""
    before = run(work, epochs=1, run_name="before").dice
    manifest = json.loads((work / "manifest.json").read_text())
    folds = json.loads((work / "folds.json").read_text())["folds"]
    for case in manifest["cases"]:
        if case["id"] in folds[0]["validation"]:
            image = nib.load(case["label"])
            turned = image.as_reoriented(nib.orientations.axcodes2ornt(("S", "P", "R")))
            case["label"] = str(tmp_path / f"{case['id']}.nii.gz")
            nib.save(turned, case["label"])
    (work / "manifest.json").write_text(json.dumps(manifest))
    assert run(work, epochs=1, run_name="after").dice == before


def test_a_label_that_has_changed_is_named(work: Path, tmp_path: Path) -> None:
    """Another shape than when it was preprocessed: one line with the case, not an index error."""
    manifest = json.loads((work / "manifest.json").read_text())
    for case in manifest["cases"]:
        case["label"] = str(tmp_path / f"{case['id']}.nii.gz")
        nib.save(nib.Nifti1Image(np.zeros((5, 6, 7), np.uint8), np.eye(4)), case["label"])
    (work / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainingError, match=r"ball_\d: its label has changed"):
        run(work, epochs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 7}, "fold must be from 0 to 2, got 7"),
        ({"configuration": "4d"}, "the plan has configurations"),
        ({"max_minutes": 0.001}, "not enough"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(work: Path, options: dict[str, object], message: str) -> None:
    """Before any work is done."""
    with pytest.raises(TrainingError, match=message) as error:
        run(work, **options)
    assert "\n" not in str(error.value)
    assert not (work / "runs").exists()
