"""A tracker in the background takes every call in its order, and cannot break a run."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from unetpipe.tracking import background
from unetpipe.tracking.background import BackgroundTracker
from unetpipe.tracking.tracker import Status, TrackedRun

RUN = TrackedRun(work=Path("work"), name="default/fold_0")


class ListTracker:
    """Keeps all calls; its runs are numbered by their parents."""

    calls: list[Any]

    def __init__(self, run: TrackedRun) -> None:
        self.run_id = f"{run.parent_id or ''}/{run.name}"
        ListTracker.calls = []

    def parameters(self, values: Mapping[str, Any]) -> None:
        self.calls.append(dict(values))

    def tags(self, values: Mapping[str, str]) -> None:
        self.calls.append(dict(values))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.calls.append((dict(values), step))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        self.calls.append((path, folder))

    def finish(self, status: Status) -> None:
        self.calls.append(status)


class FailingTracker(ListTracker):
    """Refuses its second figure."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        if step:
            raise OSError("/a/path is full")
        super().metrics(values, step)


class SlowTracker(ListTracker):
    """Takes some time for each figure."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        time.sleep(0.1)
        super().metrics(values, step)


def test_calls_arrive_in_their_order() -> None:
    """Everything until the end, which waits for it; then the store is known to have taken all."""
    tracker = BackgroundTracker(ListTracker, RUN)
    tracker.parameters({"seed": 0})
    for step in range(3):
        tracker.metrics({"loss": 1.0}, step)
    tracker.artifact(Path("curves.png"))
    tracker.finish("KILLED")
    assert ListTracker.calls[0] == {"seed": 0}
    assert ListTracker.calls[1:4] == [({"loss": 1.0}, step) for step in range(3)]
    assert ListTracker.calls[4:] == [(Path("curves.png"), None), "KILLED"]
    assert tracker.complete
    assert tracker.run_id == "/default/fold_0"


def test_a_run_gets_the_id_of_its_parent() -> None:
    """The parent's store may answer later than the child was made."""
    may_answer = threading.Event()

    def slow(run: TrackedRun) -> ListTracker:
        may_answer.wait(10)
        return ListTracker(run)

    parent = BackgroundTracker(slow, TrackedRun(work=Path("work"), name="default"))
    child = BackgroundTracker(ListTracker, RUN, parent)
    assert parent.run_id is None
    may_answer.set()
    child.finish("FINISHED")
    assert child.run_id == "/default/default/fold_0"
    parent.finish("FINISHED")


def test_a_tracker_that_fails_costs_one_line(logged: list[str]) -> None:
    """Calls go on being taken, nothing is raised, no path is logged, and the run is known to be incomplete."""
    tracker = BackgroundTracker(FailingTracker, RUN)
    for step in range(4):
        tracker.metrics({"loss": 1.0}, step)
    tracker.finish("FINISHED")
    assert FailingTracker.calls == [({"loss": 1.0}, 0)]
    assert logged == ["tracking stopped, the run goes on (OSError)"]
    assert not tracker.complete


def test_the_end_waits_as_long_as_the_store_answers(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    """Together the calls take longer than the store may be silent."""
    monkeypatch.setattr(background, "_PATIENCE_SECONDS", 1.0)
    tracker = BackgroundTracker(SlowTracker, RUN)
    for step in range(20):
        tracker.metrics({"loss": 1.0}, step)
    tracker.finish("FINISHED")
    assert SlowTracker.calls[-1] == "FINISHED"
    assert tracker.complete
    assert logged == []


def test_the_id_is_passed_on_before_the_end() -> None:
    """As soon as the store has given it, so that a run that is killed can be found again."""
    known: list[str] = []
    tracker = BackgroundTracker(ListTracker, RUN, known=known.append)
    tracker.wait_for_id()
    assert known == ["/default/fold_0"]
    tracker.finish("FINISHED")
