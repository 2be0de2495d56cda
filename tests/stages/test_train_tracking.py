"""What a training puts into the tracking store."""

import json
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from unetpipe import components
from unetpipe.config.train import TrainConfig
from unetpipe.errors import ComponentError
from unetpipe.stages.train import train
from unetpipe.tracking.tracker import NullTracker, TrackedRun
from unetpipe.training.optimization.learner import Learner


def config(work: Path, **options: object) -> TrainConfig:
    short = {"device": "cpu", "precision": "fp32", "epochs": 2, "iterations": 2}
    return TrainConfig.model_validate({"work": work} | short | options)


def test_folds_are_tracked_under_one_run(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the second fold and called again: the runs of both are part of one parent run."""
    step, calls = Learner.step, iter([False, False, True])

    def is_tracked() -> bool:
        query = "select count(*) from params join runs using (run_uuid) where name = 'default/fold_2'"
        with sqlite3.connect(work / "mlflow.db") as database:
            return database.execute(query).fetchone() != (0,)

    def stopping(self: Learner, *args: object) -> object:
        if next(calls, False):
            until = time.monotonic() + 60  # a run that MLflow does not know yet when it stops is not found again
            while not is_tracked() and time.monotonic() < until:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(config(work, epochs=1, folds="0,2"))
    result = train(config(work, epochs=1, folds="0,2"))
    assert {path.name for path in (work / "runs" / "default").iterdir()} == {"fold_0", "fold_2", "tracking_run"}
    with sqlite3.connect(work / "mlflow.db") as database:
        names = dict(database.execute("select name, run_uuid from runs").fetchall())
        parents = database.execute("select value from tags where key = 'mlflow.parentRunId'").fetchall()
    assert names.keys() == {"default", "default/fold_0", "default/fold_2"}
    assert parents == [(names["default"],)] * 2
    assert result.tracking_run == names["default"]


def test_tracking_holds_curves_and_no_person(work: Path, balls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow has config, digests, figures per epoch and pictures; no table names an account, a case or a path.

    But for the place of the store's own files.
    """
    monkeypatch.setenv("LOGNAME", "slartibartfast")
    result = train(config(work))
    with sqlite3.connect(work / "mlflow.db") as database:
        query = database.execute
        metrics = {row[0] for row in query("select key from metrics")}
        params = dict(query("select key, value from params").fetchall())
        tags = dict(query("select key, value from tags").fetchall())
        (status,) = query("select status from runs").fetchone()
        tables = [name for (name,) in query("select name from sqlite_master where type = 'table'").fetchall()]
        everything = str([query(f"select * from {name}").fetchall() for name in tables])
    assert {"loss", "learning_rate", "dice/bright", "dice/dark", "final_dice/bright", "duration_seconds"} <= metrics
    assert {"patches_per_second", "data_wait", "memory_gb", "system/cpu_utilization_percentage"} <= metrics
    assert params["config.seed"] == "0"
    assert {"dataset", "plan", "unetpipe"} <= tags.keys()
    assert status == "FINISHED"
    elsewhere = everything.replace((work / "mlartifacts").as_uri(), "")
    assert [name for name in ("slartibartfast", "ball_0", str(work), str(balls)) if name in elsewhere] == []
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
        result = train(config(work, epochs=1))
    assert result.tracking_run is None
    assert [line for line in logged if line.startswith("tracking")] == [
        "tracking stopped, the run goes on (MlflowException)"
    ]


def test_a_store_that_answers_later_gets_what_it_missed(
    work: Path, monkeypatch: pytest.MonkeyPatch, interrupt_at: Callable[..., None]
) -> None:
    """Interrupted while there was no store, and gone on with one: the run there has the first epochs too."""
    interrupt_at(2)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"file://{work}/nowhere")
        with pytest.raises(KeyboardInterrupt):
            train(config(work, epochs=3))
    train(config(work, epochs=3))
    with sqlite3.connect(work / "mlflow.db") as database:
        steps = database.execute("select step from metrics where key = 'loss' order by step").fetchall()
    assert steps == [(0,), (1,), (2,)]


def test_an_extension_tracks_a_training(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker that was registered under a word gets the figures of every epoch, and MLflow has no store."""
    monkeypatch.setattr(components, "_REGISTERED", dict(components._REGISTERED))
    points: list[tuple[int, float]] = []

    @components.register("tracker", "mine")
    class Mine(NullTracker):
        def __init__(self, run: TrackedRun) -> None:
            self.run_id = run.name  # type: ignore[assignment]

        def metrics(self, values: Mapping[str, Any], step: int) -> None:
            if "loss" in values:
                points.append((step, values["loss"]))

    result = train(config(work, tracking="mine"))
    assert [step for step, _ in points] == [0, 1]
    assert result.tracking_run == "default/fold_0"
    assert not (work / "mlflow.db").exists()


def test_a_tracker_that_is_not_there_is_refused(work: Path) -> None:
    """Before any work."""
    with pytest.raises(ComponentError, match="there is no tracker 'wandb'"):
        train(config(work, tracking="wandb"))
    assert not (work / "runs").exists()


def test_the_run_of_all_folds_is_noted_while_they_train(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that folds whose process was killed go on below the same run."""
    note, step, seen = work / "runs" / "default" / "tracking_run", Learner.step, []

    def waiting(self: Learner, *args: object) -> object:
        until = time.monotonic() + 60
        while not note.is_file() and time.monotonic() < until:
            time.sleep(0.05)
        seen.append(note.read_text())
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "step", waiting)
    result = train(config(work, epochs=1, iterations=1, folds="0"))
    assert seen == [result.tracking_run]
