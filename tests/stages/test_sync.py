"""What a store missed of trainings comes from their folders, and nothing comes twice."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from unetpipe.config.sync import SyncConfig
from unetpipe.config.train import TrainConfig
from unetpipe.errors import TrainingError, UnetpipeError
from unetpipe.folder_lock import claimed
from unetpipe.stages.sync import sync
from unetpipe.stages.train import TrainResult, train
from unetpipe.tracking.mlflow import MlflowTracker


def trained(work: Path, **options: Any) -> TrainResult:
    """A fold that was trained for two epochs of two steps."""
    short = {"device": "cpu", "precision": "fp32", "epochs": 2, "iterations": 2}
    result = train(TrainConfig.model_validate({"work": work} | short | options))
    assert isinstance(result, TrainResult)
    return result


def contents(work: Path) -> list[str]:
    """All that the store of a work folder holds."""
    with sqlite3.connect(work / "mlflow.db") as database:
        return list(database.iterdump())


def figures(work: Path, name: str) -> list[tuple[str, int, float]]:
    """Every point of every curve of a run: name, step and value; but for how busy the machine was."""
    query = "select key, step, value from metrics join runs using (run_uuid) where name = ? and key not like 'system/%'"
    with sqlite3.connect(work / "mlflow.db") as database:
        return sorted(database.execute(query, [name]).fetchall())


def test_only_what_is_missing_is_added(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that died after the first epoch ends with the run that an undisturbed store would have."""
    whole = trained(work, run_name="whole")
    metrics = MlflowTracker.metrics

    def dying(self: MlflowTracker, values: Any, step: int) -> None:
        if step:
            raise OSError
        metrics(self, values, step)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowTracker, "metrics", dying)
        cut = trained(work, run_name="cut")
    assert {step for _, step, _ in figures(work, "cut/fold_0")} == {0}
    (row,) = sync(SyncConfig(runs=(cut.bundle,))).runs
    assert row.tracking_run == cut.tracking_run
    timed = {"seconds", "patches_per_second", "data_wait", "memory_gb", "duration_seconds"}
    found, expected = (
        [point for point in figures(work, f"{name}/fold_0") if point[0] not in timed] for name in ("cut", "whole")
    )
    assert found == expected
    before = contents(work)
    assert [row.points for row in sync(SyncConfig(runs=(cut.bundle, whole.bundle))).runs] == [0, 0]
    assert contents(work) == before


def test_folds_come_below_one_run(work: Path) -> None:
    """Of a run's folder all folds are sent, and one run holds them with the mean of those that are there; a copy of a
    fold is none of them.
    """
    results = [trained(work, fold=0, tracking="none", epochs=1)]
    sync(SyncConfig(runs=(work / "runs" / "default",)))
    results.append(trained(work, fold=1, tracking="none", epochs=1))
    rows = sync(SyncConfig(runs=(work / "runs" / "default",))).runs
    assert [row.run for row in rows] == ["default", "default/fold_0", "default/fold_1"]
    with sqlite3.connect(work / "mlflow.db") as database:
        parents = database.execute("select value from tags where key = 'mlflow.parentRunId'").fetchall()
    assert parents == [(rows[0].tracking_run,)] * 2
    mean = sum(result.dice["bright"] or 0 for result in results) / 2
    assert ("final_dice/bright", 2, pytest.approx(mean)) in figures(work, "default")
    before = contents(work)
    shutil.copytree(results[0].bundle, work / "runs" / "default" / "fold_0_backup")
    sync(SyncConfig(runs=(work / "runs" / "default",)))
    sync(SyncConfig(runs=(work / "runs" / "default" / "fold_1",)))
    assert contents(work) == before


def test_an_interrupted_run_is_sent_as_one(work: Path, interrupt_at: Callable[..., None]) -> None:
    """Its epochs are there and its status is KILLED; going on, it goes on in the same run."""
    interrupt_at(2)
    with pytest.raises(KeyboardInterrupt):
        trained(work, tracking="none", epochs=3)
    (row,) = sync(SyncConfig(runs=(work / "runs" / "default" / "fold_0",))).runs
    with sqlite3.connect(work / "mlflow.db") as database:
        assert database.execute("select status from runs").fetchall() == [("KILLED",)]
    assert {step for _, step, _ in figures(work, "default/fold_0")} == {0}
    result = trained(work, epochs=3, tracking="none")
    assert result.tracking_run == row.tracking_run


def test_a_plan_that_changed_is_not_sent(work: Path, logged: list[str]) -> None:
    """The run's own files are; what the work folder has today would describe another training."""
    result = trained(work, tracking="none", epochs=1)
    plan = yaml.safe_load((work / "plan.yaml").read_text())
    plan["configurations"]["3d_fullres"]["batch_size"] = 3
    (work / "plan.yaml").write_text(yaml.safe_dump(plan))
    sync(SyncConfig(runs=(result.bundle,)))
    assert "plan or dataset have changed since the training: they are not sent" in logged
    with sqlite3.connect(work / "mlflow.db") as database:
        assert not {"plan", "dataset"} & {key for (key,) in database.execute("select key from tags")}
        assert database.execute("select count(*) from datasets").fetchone() == (0,)
    assert figures(work, "default/fold_0")


def test_what_cannot_be_sent_is_one_line(work: Path, tmp_path: Path) -> None:
    """A folder without a training, and a training that goes on."""
    with pytest.raises(TrainingError, match="no training in it: expected WORK/runs/RUN/fold_K"):
        sync(SyncConfig(runs=(tmp_path,)))
    result = trained(work, tracking="none", epochs=1)
    with claimed(result.bundle), pytest.raises(UnetpipeError, match="run default/fold_0 is in use by process"):
        sync(SyncConfig(runs=(result.bundle,)))
