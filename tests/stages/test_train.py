"""Training from preprocessed cases to a bundle."""

import json
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from unetpipe.bundle.verify import verify_bundle
from unetpipe.config import TrainConfig
from unetpipe.errors import TrainingError
from unetpipe.stages.train import TrainResult, train, train_folds
from unetpipe.training.batches.loader import Batch
from unetpipe.training.checkpoint import claimed
from unetpipe.training.optimization.learner import Learner
from unetpipe.training.validation import HeldOut


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


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("resenc", {}),
        ("unet", {"norm": "instance", "upsampling": "interpolated"}),
        ("segresnet", {}),
        pytest.param("swinunetr", {"feature_size": "12", "depths": "[1, 1, 1, 1]"}, marks=pytest.mark.slow),
        ("AttentionUnet", {"channels": "[4, 8]", "strides": "[2]"}),
    ],
)
def test_every_network_trains(work: Path, network: str, options: dict[str, str]) -> None:
    """An epoch in 3-D with three classes, and the bundle passes its checks."""
    path = work / "plan.yaml"
    plan = yaml.safe_load(path.read_text())
    configuration = plan["configurations"]["3d_fullres"]
    patch = [64, 32, 32] if network == "swinunetr" else [16, 16, 16]
    steps = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    configuration.update(patch_size=patch, features=[8, 16, 32], strides=steps, kernel_sizes=[[3, 3, 3]] * 3)
    path.write_text(yaml.safe_dump(plan))
    result = run(work, network=network, network_options=options, epochs=1)
    assert (result.epochs, result.iterations) == (1, 2)
    assert all(check.passed for check in verify_bundle(result.bundle))


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
    assert [row["epoch"] for row in rows(result)] == [0, 1]
    assert rows(result)[1]["iteration"] == result.iterations == 4
    assert "| bright |" in (result.bundle / "docs" / "README.md").read_text()


def rows(result: TrainResult) -> list[dict[str, object]]:
    return [json.loads(line) for line in (result.bundle / "metrics.jsonl").read_text().splitlines()]


@contextmanager
def signal_at(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> Iterator[None]:
    """Send SIGTERM to this process while it learns from these batches, once each."""
    step, waiting = Learner.step, set(numbers)

    def stopping(self: Learner, batch: Batch, *args: object) -> object:
        if batch.number in waiting:
            waiting.remove(batch.number)
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", stopping)
        yield


def test_interrupted_twice_equals_undisturbed(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals in the middle of the first epoch and of the third: the same weights bit for bit, the same journal."""
    undisturbed = run(work, run_name="undisturbed", epochs=4, iterations=3)
    with signal_at(monkeypatch, 1, 6):
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(work, run_name="interrupted", epochs=4, iterations=3)
        resumed = run(work, run_name="interrupted", epochs=4, iterations=3)
    assert resumed.iterations == undisturbed.iterations == 12
    for name in ("models/model.pt", "best.pt"):
        before, after = (torch.load(r.bundle / name, weights_only=True) for r in (undisturbed, resumed))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    timed = {"seconds", "patches_per_second", "data_wait", "memory_gb", "system"}
    assert [{key: row[key] for key in row.keys() - timed} for row in rows(undisturbed)] == [
        {key: row[key] for key in row.keys() - timed} for row in rows(resumed)
    ]
    assert resumed.dice == undisturbed.dice


def test_a_finished_run_is_left_alone(work: Path, logged: list[str]) -> None:
    """The same call again says so, gives the same result and touches nothing."""
    first = run(work, epochs=1)
    logged.clear()
    stamps = {path: path.stat().st_mtime_ns for path in first.bundle.rglob("*")}
    assert train(TrainConfig(work=work, device="cpu", precision="fp32", epochs=1, iterations=2)) == first
    assert logged == ["run default/fold_0 is finished"]
    assert {path: path.stat().st_mtime_ns for path in first.bundle.rglob("*")} == stamps


def test_a_run_goes_on_only_as_it_began(work: Path) -> None:
    """Other options, another plan or another split are refused by name."""
    run(work, epochs=1)
    with pytest.raises(TrainingError, match=r"--epochs was 1, is 3; --seed was 0, is 1\)"):
        run(work, epochs=3, seed=1)
    plan = yaml.safe_load((work / "plan.yaml").read_text())
    plan["configurations"]["3d_fullres"]["batch_size"] += 1
    (work / "plan.yaml").write_text(yaml.safe_dump(plan))
    with pytest.raises(TrainingError, match=r"plan\.yaml has changed"):
        run(work, epochs=1)


def test_two_processes_do_not_share_a_run(work: Path) -> None:
    """A second training in the same folder is refused while the first one holds it."""
    with claimed(work / "runs" / "default" / "fold_0"), pytest.raises(TrainingError, match="by another process"):
        run(work, epochs=1)


def test_reaching_the_target_ends_training_on_a_low_rate(work: Path) -> None:
    """A target that the first epoch reaches: the schedule is run through in one more epoch; blind cases are told."""
    result = run(work, epochs=50, iterations=10, target_dice=1e-6)
    assert result.epochs == 2
    assert rows(result)[-1]["learning_rate"] < 2e-4  # type: ignore[operator]  # a tenth of the peak
    assert (result.cases, result.blind) == (1, True)
    assert "1 others chose" in (result.bundle / "docs" / "README.md").read_text()


def test_patience_ends_training(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that get no better: after two of them training ends, and the best weights are the first epoch's."""
    dice = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr(HeldOut, "look", lambda *_: [next(dice), None])
    result = run(work, epochs=50, iterations=2, patience=2, deploy="best")
    assert result.epochs == 4
    assert result.weights == "best"
    best, last = (torch.load(result.bundle / f"{name}.pt", weights_only=True) for name in ("best", "last"))
    deployed = weights(result.bundle)
    assert all(torch.equal(deployed[key], best[key]) for key in best)
    assert not all(torch.equal(deployed[key], last[key]) for key in last)
    assert json.loads((result.bundle / "configs" / "metadata.json").read_text())["unetpipe"]["weights"] == "best"


def test_folds_are_trained_under_one_run(work: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    """Interrupted in the second fold and called again: the first is left alone, and both hang below one parent run."""
    config = TrainConfig(work=work, device="cpu", precision="fp32", epochs=1, iterations=2, folds="0,2")
    step, calls = Learner.step, iter([False, False, True])

    def stopping(self: Learner, *args: object) -> object:
        if next(calls, False):
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_folds(config)
    logged.clear()
    result = train_folds(config)
    assert logged[0] == "run default/fold_0 is finished"
    assert [row.fold for row in result.folds] == [0, 2]
    assert {path.name for path in (work / "runs" / "default").iterdir()} == {"fold_0", "fold_2", "tracking_run"}
    with sqlite3.connect(work / "mlflow.db") as database:
        names = dict(database.execute("select name, run_uuid from runs").fetchall())
        parents = database.execute("select value from tags where key = 'mlflow.parentRunId'").fetchall()
    assert names.keys() == {"default", "default/fold_0", "default/fold_2"}
    assert parents == [(names["default"],)] * 2
    assert result.tracking_run == names["default"]


def test_minutes_are_kept(work: Path) -> None:
    """A budget of ten seconds ends by the clock, with at least one epoch, and the schedule went to its end."""
    before = time.monotonic()
    result = run(work, epochs=None, iterations=250, max_minutes=20 / 60)
    assert time.monotonic() - before < 30
    assert result.epochs == len(rows(result)) >= 1
    assert rows(result)[-1]["learning_rate"] < rows(result)[0]["learning_rate"]  # type: ignore[operator]


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
    assert {"patches_per_second", "data_wait", "memory_gb", "system/cpu_utilization_percentage"} <= metrics
    assert params["config.seed"] == "0"
    assert {"dataset", "plan", "unetpipe"} <= tags.keys()
    assert status == "FINISHED"
    assert user in (None, "unknown", "")
    everything = " ".join([*params.values(), *tags.values()])
    assert str(work) not in everything
    artifacts = {path.name for path in (work / "mlartifacts").rglob("*") if path.is_file()}
    assert artifacts == {"curves.png", "overlay.png", "config.yaml", "plan.yaml"}
    state = torch.load(result.bundle / "checkpoint.pt", weights_only=True)
    state.pop("learner")
    assert str(work) not in repr(state)
    spec = json.loads((result.bundle / "configs" / "metadata.json").read_text())["unetpipe"]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert spec["tracking_run"] == result.tracking_run
    assert result.tracking_run is not None


@pytest.mark.parametrize("store", ["unknown", "refusing", "silent"])
def test_training_goes_on_without_its_tracking_store(
    work: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str], store: str
) -> None:
    """A store that refuses every call, a port where nobody listens, one that never answers: one line, not the run."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if store == "silent":
            server.listen()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{work}/nowhere" if store == "unknown" else address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        result = train(TrainConfig(work=work, device="cpu", precision="fp32", epochs=1, iterations=2))
    assert result.tracking_run is None
    assert [line for line in logged if line.startswith("tracking")] == [
        "tracking stopped, the run goes on (MlflowException)"
    ]


def test_what_a_store_missed_is_told_when_it_answers(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted while there was no store, and gone on with one: the run there has the first epochs too."""
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"file://{work}/nowhere")
        with signal_at(monkeypatch, 2), pytest.raises(KeyboardInterrupt):
            run(work, epochs=3)
    run(work, epochs=3)
    with sqlite3.connect(work / "mlflow.db") as database:
        steps = database.execute("select step from metrics where key = 'loss' order by step").fetchall()
    assert steps == [(0,), (1,), (2,)]


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
