"""The figures of an evaluation in the tracking store, on the run that trained the model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unetpipe.evaluation.document import Evaluation, ModelEvaluation
from unetpipe.tracking.named import open_tracker
from unetpipe.tracking.parent import submission_run
from unetpipe.tracking.store import has_store
from unetpipe.tracking.tracker import TrackedRun

_FOLDER = "evaluation"  # of the artifacts, and the lead of every figure's name


@dataclass(frozen=True)
class Target:
    """A run that gets figures.

    Attributes:
        name: Name of a run that is started for the figures.
        run_id: Id of the run that trained the model, to which figures are added; None starts a run.
        members: Runs that trained the models of an ensemble.
    """

    name: str
    run_id: str | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Store:
    """The store in which runs are kept.

    Attributes:
        tracking: Name of the tracker, as in the option `tracking`.
        work: A work folder whose store is used unless the environment names another; None where there is none.
    """

    tracking: str
    work: Path | None

    @property
    def exists(self) -> bool:
        """Whether figures can be added without making a store: evaluation starts none of MLflow's."""
        return self.tracking != "none" and (self.tracking != "mlflow" or has_store(self.work))


def target_of(model: ModelEvaluation, cross_validation: str | None) -> Target | None:
    """Choose the run: the one that trained the model; one of its own for an ensemble and for a cross-validation.

    Args:
        model: Evaluation of the model.
        cross_validation: Name of the run whose folds made the predictions; None for other predictions.

    Returns:
        None where nothing says what trained the model.
    """
    if cross_validation is not None:
        return Target(f"{cross_validation}/cross-validation")
    runs = tuple(bundle.tracking_run for bundle in model.made_by if bundle.tracking_run)
    if len(model.made_by) > 1 and runs:
        return Target("ensemble", members=runs)
    return Target("", runs[0]) if runs else None


def track(
    model: ModelEvaluation, target: Target, evaluation: Evaluation, files: Sequence[Path], store: Store
) -> str | None:
    """Add a model's figures and the report's files to a run. A store that does not answer costs one line.

    Args:
        model: Evaluation of the model.
        target: Run that gets the figures.
        evaluation: Evaluation that the model is part of.
        files: Files to add as artifacts; empty where the case ids in them may identify patients.
        store: Store that holds the run.

    Returns:
        The run's id; None if there is no store, or it did not take everything.

    Raises:
        ComponentError: If there is no such tracker.
    """
    if not store.exists:
        return None
    run = TrackedRun(
        work=store.work or Path(), name=target.name, run_id=target.run_id, parent_id=submission_run(), only_add=True
    )
    tracker = open_tracker(store.tracking, run)
    tracker.tags(
        {f"{_FOLDER}.references_sha256": evaluation.references_sha256[:16]}
        | ({f"{_FOLDER}.members": " ".join(target.members)} if target.members else {})
    )
    tracker.metrics(figures(model, evaluation.cases), step=0)
    for path in files:
        tracker.artifact(path, _FOLDER)
    tracker.finish("FINISHED")
    return tracker.run_id if tracker.complete else None


def figures(model: ModelEvaluation, cases: int) -> dict[str, float]:
    """Each class's means and counts of missed and invented cases, by name; undefined values are left out."""
    values = {"cases": float(cases), "missing_predictions": float(len(model.missing)), "mean_dice": model.mean_dice}
    for item in model.classes:
        values |= {f"{metric}/{item.name}": figure.mean for metric, figure in item.figures.items()}
        values |= {f"missed/{item.name}": item.missed, f"false_positives/{item.name}": item.false_positives}
    return {f"{_FOLDER}/{name}": value for name, value in values.items() if not math.isnan(value)}
