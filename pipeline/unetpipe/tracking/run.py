"""The tracking run of a training: what it was asked to do, what it is made from, how it ended."""

import hashlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unetpipe import __version__
from unetpipe.tracking.background import OpenTracker
from unetpipe.tracking.named import open_tracker
from unetpipe.tracking.tracker import Status, TrackedRun


@contextmanager
def tracked(
    named: str, run: TrackedRun, parameters: Mapping[str, Any], parent: OpenTracker | None = None
) -> Iterator[OpenTracker]:
    """Open a run, and close it with the status that fits how the block ends.

    Args:
        named: Name of the tracker, as `open_tracker` knows it.
        run: The plan of its work folder becomes an artifact; digests of plan and fingerprint identify the dataset.
        parameters: Options given and choices made, without paths and patients.
        parent: Tracker of the run that this one is a part of.

    Raises:
        ComponentError: If there is no such tracker.
    """
    tracker = open_tracker(named, run, parent)
    tracker.parameters(parameters)
    tracker.tags(
        {
            "dataset": _digest(run.work / "fingerprint.json"),
            "plan": _digest(run.work / "plan.yaml"),
            "unetpipe": __version__,
            "torch": importlib.metadata.version("torch"),
        }
    )
    tracker.artifact(run.work / "plan.yaml")
    status: Status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.finish(status)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
