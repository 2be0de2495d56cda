"""The options of a run as MLflow's parameters."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from unetpipe.tracking.mlflow import MlflowTracker
from unetpipe.tracking.store import default_tracking_uri
from unetpipe.tracking.tracker import TrackedRun


def test_names_of_classes_need_not_please_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not take in a name becomes an underscore, as in metrics; the first value of each counts."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first = MlflowTracker(TrackedRun(work=tmp_path, name="fold_0"))
    first.parameters({"config": {"class_weights": {"tumour (core)": 2.0, "a/../b": 3.0}, "seed": 0}})
    again = MlflowTracker(TrackedRun(work=tmp_path, name="fold_0", run_id=first.run_id))
    again.parameters({"config": {"class_weights": {"tumour (core)": 5.0}}})
    again.finish("FINISHED")
    run = MlflowClient(default_tracking_uri(tmp_path)).get_run(first.run_id)
    assert run.data.params == {
        "config.class_weights.tumour _core_": "2.0",
        "config.class_weights.a/b": "3.0",
        "config.seed": "0",
    }
