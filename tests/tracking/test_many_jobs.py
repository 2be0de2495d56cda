"""Many trainings and one server, on SQLite and on PostgreSQL."""

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from unetpipe.bundle.read import read_bundle
from unetpipe.config.sync import SyncConfig
from unetpipe.config.train import TrainConfig
from unetpipe.errors import TrackingError
from unetpipe.stages.sync import SyncResult, sync
from unetpipe.stages.train import TrainResult, train
from unetpipe.tracking.mlflow import MlflowTracker
from unetpipe.tracking.tracker import TrackedDataset, TrackedRun

pytestmark = pytest.mark.slow

OPTIONS = ["--epochs", "2", "--iterations", "2", "--device", "cpu"]


@pytest.fixture
def own_work(balls_work: Path, tmp_path: Path) -> Path:
    """A work folder to train in."""
    return Path(shutil.copytree(balls_work, tmp_path / "work"))


def test_trainings_that_start_at_once_are_all_tracked(on_server: Any, own_work: Path) -> None:
    """Three processes and one server: each run has every point of its curves and its files."""
    words = [sys.executable, "-m", "unetpipe", "train", str(own_work), *OPTIONS, "--run-name"]
    started = {name: subprocess.Popen([*words, name], stderr=subprocess.PIPE, text=True) for name in "abc"}
    said = {name: process.communicate(timeout=300)[1] for name, process in started.items()}
    assert [process.returncode for process in started.values()] == [0, 0, 0], said
    assert not [name for name, lines in said.items() if "tracking" in lines], said
    client = MlflowClient(on_server.uri)
    experiment = client.get_experiment_by_name("unetpipe")
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    for name in "abc":
        run = found[f"{name}/fold_0"]
        assert run.info.status == "FINISHED", said[name]
        assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [0, 1]
        assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"plan.yaml", "curves.png"}


def test_runs_of_one_dataset_that_open_at_once_all_have_it(on_server: Any, own_work: Path) -> None:
    """The store makes a dataset once; whoever comes at the same moment is refused first, and asks again."""
    together, count = threading.Barrier(8), 8

    def opened(name: str, digest: str) -> str:
        dataset = TrackedDataset(context="training", digest=digest, profile={})
        together.wait()
        return MlflowTracker(TrackedRun(work=own_work, name=name, datasets=(dataset,))).run_id

    client = MlflowClient(on_server.uri)
    with ThreadPoolExecutor(count) as pool:
        for digest in ("one", "two", "three"):
            runs = list(pool.map(opened, map(str, range(count)), [digest] * count))
            for run in runs:
                assert [one.dataset.digest for one in client.get_run(run).inputs.dataset_inputs] == [digest]


def test_a_submission_is_the_parent_of_its_runs(on_server: Any, own_work: Path, tmp_path: Path) -> None:
    """Folds that were submitted together hang below one run, which ends as the submission did."""
    submit = [sys.executable, "-m", "unetpipe", "submit", "--cluster", "local", "--logs", "logs"]
    command = [*submit, "--folds", "0,1", "--wait", "train", str(own_work), *OPTIONS]
    subprocess.run(command, check=True, cwd=tmp_path, env=os.environ, capture_output=True, timeout=300)
    client = MlflowClient(on_server.uri)
    experiment = client.get_experiment_by_name("unetpipe")
    (parent,) = client.search_runs([experiment.experiment_id], "run_name = 'submission 1'")
    children = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {run.info.run_name for run in children} == {"default/fold_0", "default/fold_1"}
    assert parent.info.status == "FINISHED"
    assert str(tmp_path) not in str(on_server.everything())


def test_a_server_gets_what_it_missed(on_server: Any, own_work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained while nobody answered: afterwards the server has curves, parameters, tags and files, and no path."""
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        short = {"device": "cpu", "precision": "fp32", "epochs": 2, "iterations": 2, "run_name": "missed"}
        result = train(TrainConfig.model_validate({"work": own_work} | short))
        assert isinstance(result, TrainResult)
        with pytest.raises(TrackingError, match="missed/fold_0 cannot be sent: API request"):
            sync(SyncConfig(runs=(result.bundle,)))
    assert result.tracking_run is None
    (row,) = sync(SyncConfig(runs=(result.bundle,))).runs
    client = MlflowClient(on_server.uri)
    run = client.get_run(row.tracking_run)
    assert (run.info.run_name, run.info.status) == ("missed/fold_0", "FINISHED")
    assert [point.step for point in client.get_metric_history(row.tracking_run, "loss")] == [0, 1]
    assert run.data.metrics["final_mean_dice"] == result.mean_dice
    assert run.data.params["config.iterations"] == "2"
    assert {"dataset", "plan", "final_dice"} <= set(run.data.tags)
    assert {one.tags[0].value for one in run.inputs.dataset_inputs} == {"training", "validation"}
    assert {file.path for file in client.list_artifacts(row.tracking_run)} >= {"plan.yaml", "curves.png", "overlay.png"}
    assert read_bundle(result.bundle).spec.tracking_run == row.tracking_run
    before = on_server.everything()
    assert str(own_work) not in str(before)
    assert sync(SyncConfig(runs=(result.bundle,))) == SyncResult(runs=(row.model_copy(update={"points": 0}),))
    assert on_server.everything() == before
