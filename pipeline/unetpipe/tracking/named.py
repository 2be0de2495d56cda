"""Trackers by the name that ``--tracking`` gives."""

from collections.abc import Callable

from unetpipe.components import find, register
from unetpipe.errors import ComponentError
from unetpipe.tracking.background import BackgroundTracker, OpenTracker
from unetpipe.tracking.mlflow import MlflowTracker
from unetpipe.tracking.tracker import NullTracker, TrackedRun, TrackerFactory

_METHODS = ("parameters", "tags", "metrics", "artifact", "finish")

register("tracker", "mlflow")(MlflowTracker)
register("tracker", "none")(NullTracker)


def open_tracker(
    named: str, run: TrackedRun, parent: OpenTracker | None = None, known: Callable[[str], None] | None = None
) -> OpenTracker:
    """Start or continue a run of a store.

    Args:
        named: ``none``, ``mlflow``, or a name that an extension has registered.
        run: Run to open.
        parent: Tracker of the run that this one is a part of.
        known: Called with the run's id as soon as the store has given it, in a thread.

    Raises:
        ComponentError: As `find_tracker`.
    """
    factory = find_tracker(named)
    return NullTracker() if factory is NullTracker else BackgroundTracker(factory, run, parent, known)


def find_tracker(named: str) -> TrackerFactory:
    """Find a tracker by its name.

    Raises:
        ComponentError: If none is registered under this name, or the registered class lacks a method of `Tracker`.
    """
    factory = find("tracker", named)
    missing = [name for name in _METHODS if isinstance(factory, type) and not hasattr(factory, name)]
    if missing:
        raise ComponentError(f"tracker {named!r} has no method {', '.join(missing)}")
    return factory
