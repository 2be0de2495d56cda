"""The options of a run as MLflow's parameters."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from unetpipe.tracking.mlflow import MlflowTracker
from unetpipe.tracking.run import training_parameters
from unetpipe.tracking.store import default_tracking_uri
from unetpipe.tracking.tracker import TrackedRun
from unetpipe.training.run_identity import RunIdentity
from unetpipe.training.schedule import Budget
from unetpipe.training.state import RunState


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


@pytest.mark.parametrize(("optimizer", "recipe"), [(None, {"recipe": "muon"}), ("sgd", {}), ({"_target_": "sgd"}, {})])
def test_no_other_optimiser_is_named_than_the_one_that_learned(optimizer: object, recipe: dict[str, str]) -> None:
    """The recipe that suits the length of a run is a parameter where no optimiser was asked for."""
    state = RunState(
        identity=RunIdentity(options={"optimizer": optimizer}, digests={}),
        definition={"_target_": "monai.networks.nets.UNet"},
        budget=Budget(epochs=5, iterations=2, batch_size=2, seconds=None, recipe="muon"),
    )
    budget = {"epochs": 5, "iterations": 2, "batch_size": 2, "seconds": None}
    assert training_parameters(state, None)["budget"] == budget | recipe
