"""A run that goes on, and figures that are added to one that has ended."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from unetpipe.tracking.mlflow import MlflowTracker
from unetpipe.tracking.store import default_tracking_uri
from unetpipe.tracking.tracker import TrackedRun


def test_a_training_that_goes_on_adds_what_its_run_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives all its points again; those that had arrived stay single. A second evaluation counts as well."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    killed = MlflowTracker(TrackedRun(work=tmp_path, name="fold_0"))
    killed.metrics({"loss": 3.0, "dice/left": 0.1}, 0)

    again = MlflowTracker(TrackedRun(work=tmp_path, name="fold_0", run_id=killed.run_id))
    for step, loss in enumerate((3.0, 2.0, 1.0)):
        again.metrics({"loss": loss, "dice/left": 0.1}, step)
    again.finish("FINISHED")

    evaluation = MlflowTracker(TrackedRun(work=tmp_path, name="fold_0", run_id=killed.run_id, only_add=True))
    evaluation.metrics({"dice/left": 0.9}, 2)
    client = MlflowClient(default_tracking_uri(tmp_path))
    points = {key: client.get_metric_history(killed.run_id, key) for key in ("loss", "dice/left")}
    assert [(point.step, point.value) for point in points["loss"]] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert sorted((point.step, point.value) for point in points["dice/left"]) == [
        (0, 0.1),
        (1, 0.1),
        (2, 0.1),
        (2, 0.9),
    ]
