"""Evaluation's figures in MLflow: on which run, and what is in them."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.dataset.folds import Fold, Folds
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.documents import write_document
from unetpipe.imaging.files import write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.inference.predictions import ModelUsed, Prediction, Predictions
from unetpipe.stages.evaluate import EvaluateResult, evaluate
from unetpipe.tracking.background import BackgroundTracker
from unetpipe.tracking.mlflow import MlflowTracker
from unetpipe.tracking.store import EXPERIMENT
from unetpipe.tracking.tracker import TrackedRun

GRID = Grid.of((12, 12, 12), np.eye(4))
ARTIFACTS = {"metrics.csv", "summary.json", "report.html"}


def cube(start: int) -> np.ndarray:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[start : start + 4, 2:6, 2:6] = 1
    return labels


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder of two cases, which two folds have predicted, one well and one less so."""
    folder = tmp_path / "work"
    for case in "ab":
        write_labels(tmp_path / "reference" / f"{case}.nii.gz", cube(2), GRID, {})
    cases = tuple(Case(id=case, images=(), label=tmp_path / "reference" / f"{case}.nii.gz") for case in "ab")
    labels = (LabelClass(name="background", value=0), LabelClass(name="organ (left)", value=1))
    write_document(
        folder / "manifest.json",
        Manifest(name="cubes", channels=("MRI",), labels=labels, spatial_dims=3, cases=cases),
    )
    folds = (Fold(train=("b",), validation=("a",)), Fold(train=("a",), validation=("b",)))
    write_document(folder / "folds.json", Folds(seed=0, by_patient=False, folds=folds))
    for number, case in enumerate("ab"):
        validation = folder / "runs" / "default" / f"fold_{number}" / "validation"
        write_labels(validation / f"{case}.nii.gz", cube(2 + 2 * number), GRID, {})
    return folder


@pytest.fixture(scope="module")
def _empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs; to make one takes MLflow seconds."""
    folder = tmp_path_factory.mktemp("store")
    MlflowTracker(TrackedRun(work=folder, name="")).finish("FINISHED")
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("delete from tags")
        database.execute("delete from runs")
        database.execute("delete from experiment_tags")
        database.execute("delete from experiments where name = ?", (EXPERIMENT,))
    return folder / "mlflow.db"


@pytest.fixture
def trained(work: Path, _empty_store: Path) -> str:
    """Id of a training run in the work folder's store."""
    shutil.copy(_empty_store, work / "mlflow.db")
    tracker = MlflowTracker(TrackedRun(work=work, name="default/fold_0"))
    tracker.metrics({"loss": 1.0}, step=0)
    tracker.finish("FINISHED")
    assert tracker.run_id is not None
    return tracker.run_id


def predictions(folder: Path, *runs: str | None, start: int = 3) -> Path:
    """Labels of both cases, made by one model per run."""
    for case in "ab":
        write_labels(folder / f"{case}.nii.gz", cube(start), GRID, {})
    models = tuple(
        ModelUsed(name=f"fold_{number}", version="1", sha256="0" * 64, tracking_run=run)
        for number, run in enumerate(runs)
    )
    write_document(
        folder / "predictions.json", Predictions(models=models, versions={}, device="cpu", settings={}, cases=())
    )
    return folder


def run(work: Path, *paths: Path, **options: Any) -> EvaluateResult:
    config = EvaluateConfig(predictions=paths, work=work, out=work.parent / "out", **options)
    return evaluate(config)


def stored(work: Path, query: str, *values: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(work / "mlflow.db") as database:
        return database.execute(query, values).fetchall()


def metrics(work: Path, run_id: str) -> dict[str, float]:
    return dict(stored(work, "select key, value from latest_metrics where run_uuid = ?", run_id))


def test_figures_and_files_go_to_the_training_run(work: Path, trained: str, tmp_path: Path) -> None:
    """The run that predictions.json names gets every class's figures and the report, and stays finished when it was."""
    run_before = stored(work, "select status, start_time, end_time from runs")
    result = run(work, predictions(tmp_path / "labels", trained))
    assert result.tracking_runs == (trained,)
    found = metrics(work, trained)
    assert found["evaluation/dice/organ _left_"] == found["evaluation/mean_dice"] == pytest.approx(0.75)
    assert found["evaluation/cases"] == 2
    assert found["evaluation/missed/organ _left_"] == found["evaluation/missing_predictions"] == 0
    assert {"loss", "evaluation/hd95_mm/organ _left_", "evaluation/nsd/organ _left_"} <= found.keys()
    files = [path for path in (work / "mlartifacts").rglob("*") if path.is_file()]
    assert {path.name for path in files} == ARTIFACTS
    assert {path.parent.name for path in files} == {"evaluation"}
    assert stored(work, "select status, start_time, end_time from runs") == run_before


def test_what_is_logged_names_no_path_case_or_user(work: Path, trained: str, tmp_path: Path) -> None:
    """Names of metrics, parameters and tags come from classes and metrics alone."""
    run(work, predictions(tmp_path / "someone", trained))
    words = [str(row) for table in ("metrics", "params", "tags") for row in stored(work, f"select * from {table}")]
    assert not [word for word in words if str(tmp_path) in word or "someone" in word]
    assert {row[0] for row in stored(work, "select user_id from runs")} <= {None, "", "unknown"}


def test_ids_of_dicom_cases_stay(work: Path, trained: str, tmp_path: Path, logged: list[str]) -> None:
    """Where labels were made from DICOM series, whose folders name the cases, MLflow gets figures and no file."""
    labels = predictions(tmp_path / "labels", trained)
    path = labels / "predictions.json"
    made = Predictions.model_validate_json(path.read_bytes())
    shard = made.model_copy(update={"cases": (Prediction(id="a", status="written", dicom=True),)})
    write_document(labels / "predictions-1-of-2.json", shard)
    result = run(work, labels)
    assert result.tracking_runs == (trained,)
    assert metrics(work, trained)["evaluation/mean_dice"] == pytest.approx(0.75)
    assert [file for file in work.rglob("mlartifacts/**/*") if file.is_file()] == []
    assert "DICOM" in logged[0]


def test_cross_validation_has_a_run_of_its_own(work: Path, trained: str) -> None:
    """All folds' figures belong to none of their runs, and are found under RUN/cross-validation."""
    result = run(work, work, cross_validation=True)
    (run_id,) = result.tracking_runs
    assert run_id != trained
    assert stored(work, "select name, status from runs where run_uuid = ?", run_id) == [
        ("default/cross-validation", "FINISHED")
    ]
    assert metrics(work, run_id)["evaluation/mean_dice"] == pytest.approx((1 + 0.5) / 2)


def test_an_ensemble_has_a_run_of_its_own(work: Path, trained: str, tmp_path: Path) -> None:
    """What several models found together is no figure of any one of them; the run names its members."""
    (run_id,) = run(work, predictions(tmp_path / "labels", trained, "f" * 32)).tracking_runs
    assert run_id != trained
    (members,) = stored(work, "select value from tags where key = 'evaluation.members' and run_uuid = ?", run_id)
    assert members == (f"{trained} {'f' * 32}",)


def test_models_of_one_run_do_not_mix(work: Path, trained: str, tmp_path: Path) -> None:
    """When two folders come from the same training, the first one's figures stand."""
    first, second = predictions(tmp_path / "first", trained, start=2), predictions(tmp_path / "second", trained)
    assert run(work, first, second).tracking_runs == (trained,)
    assert metrics(work, trained)["evaluation/mean_dice"] == 1


@pytest.mark.parametrize("named", [None, "e" * 32])
def test_evaluation_does_not_depend_on_the_store(
    work: Path, trained: str, tmp_path: Path, logged: list[str], named: str | None
) -> None:
    """A model without a run is left out silently; a run that the store does not know costs one line."""
    result = run(work, predictions(tmp_path / "labels", named))
    assert result.passed
    assert result.tracking_runs == ()
    assert len(logged) == (named is not None)
    assert len(metrics(work, trained)) == 1


def test_no_store_is_made(work: Path, tmp_path: Path) -> None:
    """Without a store nothing is logged and none appears; neither with `tracking: none` where there is one."""
    labels = predictions(tmp_path / "labels", "e" * 32)
    assert run(work, labels).tracking_runs == ()
    assert not (work / "mlflow.db").exists()
    (work / "mlflow.db").touch()
    for off in (False, "none"):
        assert run(work, labels, tracking=off).tracking_runs == ()
    assert (work / "mlflow.db").stat().st_size == 0


def test_the_environment_names_the_store(
    work: Path, trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLFLOW_TRACKING_URI is enough: no work folder is needed."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{work / 'mlflow.db'}")
    labels = predictions(tmp_path / "labels", trained)
    config = EvaluateConfig(predictions=(labels,), reference=tmp_path / "reference", out=tmp_path / "out")
    assert evaluate(config).tracking_runs == (trained,)
    assert metrics(work, trained)["evaluation/dice/1"] == pytest.approx(0.75)


def test_many_classes(work: Path, trained: str) -> None:
    """More figures than MLflow takes in one call all arrive; names that it refuses are mended."""
    tracker = BackgroundTracker(MlflowTracker, TrackedRun(work=work, name="", run_id=trained))
    tracker.metrics({f"dice/class {number}": 0.5 for number in range(2500)} | {"../a//b(c)/": 1.0}, step=0)
    tracker.finish("FINISHED")
    assert tracker.complete
    found = metrics(work, trained)
    assert len(found) == 2502
    assert "a/b_c_" in found
