"""Trackers are named by words, the package's own and those of an extension."""

from pathlib import Path

import pytest

from unetpipe import components
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.train import TrainConfig
from unetpipe.errors import ComponentError
from unetpipe.tracking.named import find_tracker, open_tracker
from unetpipe.tracking.tracker import NullTracker, TrackedRun


@pytest.fixture(autouse=True)
def _no_registration_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "_REGISTERED", dict(components._REGISTERED))


def test_none_is_a_tracker_that_keeps_nothing() -> None:
    """It answers every call, and knows no run."""
    tracker = open_tracker("none", TrackedRun(work=Path("work"), name="a"))
    assert isinstance(tracker, NullTracker)
    tracker.metrics({"loss": 1.0}, step=0)
    assert tracker.wait_for_id() is None


def test_a_registered_tracker_is_found_by_its_word() -> None:
    """What an extension registers can be opened like the package's own."""

    @components.register("tracker", "mine")
    class Mine(NullTracker):
        def __init__(self, run: TrackedRun) -> None:
            self.run_id = run.name  # type: ignore[assignment]

    tracker = open_tracker("mine", TrackedRun(work=Path("work"), name="a"))
    tracker.finish("FINISHED")
    assert tracker.run_id == "a"
    assert tracker.complete


def test_what_is_no_tracker_is_refused() -> None:
    """A word that nobody registered, and a class that lacks methods, before any work."""
    with pytest.raises(ComponentError, match="there is no tracker 'wandb': expected one of mlflow, none"):
        find_tracker("wandb")
    components.register("tracker", "half")(type("Half", (), {"tags": None, "finish": None}))
    with pytest.raises(ComponentError, match="tracker 'half' has no method parameters, metrics, artifact"):
        find_tracker("half")


@pytest.mark.parametrize(
    ("written", "meant"), [(True, "mlflow"), (False, "none"), ("true", "mlflow"), ("none", "none"), ("mine", "mine")]
)
def test_the_switch_that_tracking_was_is_still_read(written: object, meant: str) -> None:
    """True and false of older YAML files, and words."""
    files = {"predictions": ["labels"], "out": "report", "work": "work"}
    assert EvaluateConfig.model_validate({**files, "tracking": written}).tracking == meant
    assert TrainConfig.model_validate({"work": "work", "tracking": written}).tracking == meant
