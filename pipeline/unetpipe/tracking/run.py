"""The tracking run of a training: what it was asked to do, what it is made from, how it ended."""

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unetpipe import __version__
from unetpipe.dataset.training_set import TrainingSet
from unetpipe.tracking.background import OpenTracker
from unetpipe.tracking.named import open_tracker
from unetpipe.tracking.tracker import DatasetContext, Status, TrackedDataset, TrackedRun
from unetpipe.training.state import RunState


def tracked_datasets(work: Path, data: TrainingSet) -> tuple[TrackedDataset, ...]:
    """Identify the cases that a fold trains on, and those that it holds out, without their names.

    Args:
        work: Work folder, whose fingerprint identifies the dataset.
        data: Cases of the fold.
    """
    fingerprint = (work / "fingerprint.json").read_bytes()
    shape = {"channels": list(data.manifest.channels), "classes": data.foreground}

    def of(context: DatasetContext, cases: Sequence[str]) -> TrackedDataset:
        digest = _digest(fingerprint, "\0".join(sorted(cases)).encode())
        return TrackedDataset(context=context, digest=digest, profile={"cases": len(cases), **shape})

    return (of("training", data.training), of("validation", data.validation))


def training_parameters(state: RunState, data: TrainingSet | None) -> dict[str, object]:
    """Parameters of a training's run: the options given, and the choices made.

    Args:
        state: State of the run.
        data: Cases of the fold; None where they are not known any more.
    """
    budget = asdict(state.budget)
    if state.identity.options.get("optimizer") is not None:
        del budget["recipe"]  # what the length of the run would have chosen
    given: dict[str, object] = {"config": state.identity.options, "network": state.definition, "budget": budget}
    if data is None:
        return given
    return given | {
        "configuration": data.configuration.model_dump(mode="json"),
        "cases": {"training": len(data.training), "validation": len(data.validation)},
    }


def folds_parameters(options: Mapping[str, Any]) -> dict[str, object]:
    """Parameters of the run that those of several folds are part of: the options that they share.

    Args:
        options: Options of any of the folds, as `run_options` gives them.
    """
    return {"config": {name: value for name, value in options.items() if name != "fold"}}


def work_tags(work: Path) -> dict[str, str]:
    """Digests that identify the dataset and the plan of a work folder."""
    files = {"dataset": "fingerprint.json", "plan": "plan.yaml"}
    return {name: _digest((work / file).read_bytes()) for name, file in files.items()}


@contextmanager
def tracked(
    named: str,
    run: TrackedRun,
    parameters: Mapping[str, Any],
    parent: OpenTracker | None = None,
    known: Callable[[str], None] | None = None,
) -> Iterator[OpenTracker]:
    """Open a run, and close it with the status that fits how the block ends.

    Args:
        named: Name of the tracker, as `open_tracker` knows it.
        run: The plan of its work folder becomes an artifact; digests of plan and fingerprint identify the dataset.
        parameters: Options given and choices made, without paths and patients.
        parent: Tracker of the run that this one is a part of.
        known: Called with the run's id as soon as the store has given it, in a thread.

    Raises:
        ComponentError: If there is no such tracker.
    """
    tracker = open_tracker(named, run, parent, known)
    tracker.parameters(parameters)
    tracker.tags({**work_tags(run.work), "unetpipe": __version__, "torch": importlib.metadata.version("torch")})
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


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
