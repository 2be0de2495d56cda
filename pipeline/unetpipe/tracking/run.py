"""The tracking run of a training: what it was asked, what it is made from, how it ended."""

import hashlib
import importlib.metadata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unetpipe import __version__
from unetpipe.tracking.mlflow import MlflowTracker, Status


@contextmanager
def tracked(
    work: Path,
    name: str,
    parameters: Mapping[str, Any],
    *,
    run_id: str | None = None,
    parent: MlflowTracker | None = None,
) -> Iterator[MlflowTracker]:
    """Open a run, and close it with the status that fits how the block ends.

    Args:
        work: Its plan becomes an artifact; digests of plan and fingerprint say which dataset it was.
        name: Shown in the list of runs.
        parameters: What was asked, and decided. No path, no patient.
        run_id: Of the run to continue.
        parent: Run that this one is a part of.
    """
    tracker = MlflowTracker(work, name, run_id, parent=parent)
    tracker.parameters(parameters)
    tracker.tags(
        {
            "dataset": _digest(work / "fingerprint.json"),
            "plan": _digest(work / "plan.yaml"),
            "unetpipe": __version__,
            "torch": importlib.metadata.version("torch"),
        }
    )
    tracker.artifact(work / "plan.yaml")
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
