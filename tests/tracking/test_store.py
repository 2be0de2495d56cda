"""A store in a file, made by whoever comes first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from unetpipe.tracking.store import default_tracking_uri, named_for_mlflow, open_store

_RUN = """
import sys
from pathlib import Path
from unetpipe.tracking.mlflow import MlflowTracker
from unetpipe.tracking.tracker import TrackedRun
work, name = sys.argv[1:]
MlflowTracker(TrackedRun(work=Path(work), name=name)).finish("FINISHED")
"""


@pytest.mark.slow
def test_a_fresh_store_keeps_the_runs_of_all_that_start_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three processes find no store and make one: each run is there, and nothing is left of the other stores."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    started = [subprocess.Popen([sys.executable, "-c", _RUN, str(tmp_path), name]) for name in "abc"]
    assert [process.wait(120) for process in started] == [0, 0, 0]
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("unetpipe")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert sorted((run.info.run_name, run.info.status) for run in found) == [(name, "FINISHED") for name in "abc"]
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_store_knows_no_folder_but_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own experiment would have the folder that the command was called from, which may name a person."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    elsewhere, work = tmp_path / "CANARY", tmp_path / "work"
    elsewhere.mkdir()
    work.mkdir()
    monkeypatch.chdir(elsewhere)
    client, _ = open_store(work)
    assert b"CANARY" not in (work / "mlflow.db").read_bytes()
    assert {one.artifact_location for one in client.search_experiments()} == {(work / "mlartifacts").as_uri()}


def test_a_store_that_is_lent_to_mlflow_is_no_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a model is registered in one store, the run of another folder goes into its own; then nothing is named."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with named_for_mlflow(tmp_path / "a"):
        assert os.environ["MLFLOW_TRACKING_URI"] == default_tracking_uri(tmp_path / "a")
        assert default_tracking_uri(tmp_path / "b").endswith("b/mlflow.db")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    with named_for_mlflow(tmp_path / "a"):
        assert default_tracking_uri(tmp_path / "b") == "http://server"
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://server"
