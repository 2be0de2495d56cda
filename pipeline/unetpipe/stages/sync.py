"""What a tracking store missed of trainings, while it did not answer or was another one, from the runs' own folders.

`metrics.jsonl` and the checkpoint have all that a store is sent, so they are the truth. What the store has already
stays as it is, and the same call again changes nothing.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.revise import write_tracking_run
from unetpipe.config.sync import SyncConfig
from unetpipe.dataset.run_folders import fold_folders
from unetpipe.dataset.training_set import TrainingSet, read_training_set
from unetpipe.documents import Record
from unetpipe.errors import PlanError, TrainingError
from unetpipe.folder_lock import claimed
from unetpipe.report.journal import read_history
from unetpipe.report.run_figures import FINAL_FILES, epoch_figures, final_figures, final_tags, mean_figures
from unetpipe.tracking.catch_up import CatchUpTracker
from unetpipe.tracking.parent import note_run, noted_run
from unetpipe.tracking.run import folds_parameters, tracked_datasets, training_parameters, work_tags
from unetpipe.tracking.store import store_errors
from unetpipe.tracking.tracker import TrackedRun
from unetpipe.training.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from unetpipe.training.state import RunState

log = logging.getLogger(__name__)


class SyncedRun(Record):
    """A run of the store.

    Attributes:
        run: Name of the run.
        tracking_run: Its id in the store.
        points: Points that were added to curves.
    """

    run: str
    tracking_run: str
    points: int


class SyncResult(Record):
    """The result of `sync`.

    Attributes:
        runs: A row for each run.
    """

    runs: tuple[SyncedRun, ...]


def sync(config: SyncConfig) -> SyncResult:
    """Send a tracking store what it does not have of trainings.

    A run that the store does not have is started there, and the training's folder names it from then on.

    Raises:
        TrainingError: If a folder holds no training.
        UnetpipeError: If its training goes on.
        TrackingError: If the store does not answer.
    """
    rows: list[SyncedRun] = []
    for run in config.runs:
        folds = [folder for folder in fold_folders(run).values() if has_checkpoint(folder)]
        if folds:
            rows += _sync_folds(run.resolve(), folds)
        elif has_checkpoint(run):
            rows.append(_sync_fold(run, noted_run(run.resolve().parent))[0])
        else:
            raise TrainingError(f"{run}: no training in it: expected WORK/runs/RUN/fold_K, or WORK/runs/RUN")
    return SyncResult(runs=tuple(rows))


def _sync_folds(run: Path, folds: Sequence[Path]) -> list[SyncedRun]:
    """Folds below the run of all of them."""
    with store_errors(f"{run.name} cannot be sent"):
        parent = CatchUpTracker(TrackedRun(work=run.parents[1], name=run.name, run_id=noted_run(run)))
        note_run(run, parent.run_id)
    rows, states = zip(*(_sync_fold(fold, parent.run_id) for fold in folds), strict=True)
    outcomes = [state.outcome for state in states if state.outcome]
    with store_errors(f"{run.name} cannot be sent"):
        parent.parameters(folds_parameters(states[0].identity.options))
        if len(outcomes) == len(folds):
            parent.metrics(mean_figures(outcomes), step=len(outcomes))
        parent.finish("FINISHED" if len(outcomes) == len(folds) else "KILLED")
    return [SyncedRun(run=run.name, tracking_run=parent.run_id, points=parent.added), *rows]


def _sync_fold(folder: Path, parent_id: str | None) -> tuple[SyncedRun, RunState]:
    folder = folder.resolve()
    work, name = folder.parents[2], f"{folder.parent.name}/{folder.name}"
    with claimed(folder, f"run {name}") as claim, store_errors(f"{name} cannot be sent"):
        state = load_checkpoint(folder)
        assert state is not None  # as there is one
        data = _unchanged_data(work, state)
        datasets = tracked_datasets(work, data) if data else ()
        run = TrackedRun(work=work, name=name, run_id=state.tracking_run, parent_id=parent_id, datasets=datasets)
        tracker = CatchUpTracker(run)
        if tracker.run_id != state.tracking_run:
            claim.require()
            state.tracking_run = tracker.run_id
            save_checkpoint(folder, state)
            write_tracking_run(folder, tracker.run_id)
        _send(tracker, state, data, folder)
    return SyncedRun(run=name, tracking_run=tracker.run_id, points=tracker.added), state


def _send(tracker: CatchUpTracker, state: RunState, data: TrainingSet | None, folder: Path) -> None:
    work = folder.parents[2]
    tracker.parameters(training_parameters(state, data))
    if data:
        tracker.tags(work_tags(work))
        tracker.artifact(work / "plan.yaml")
    if history := read_history(folder):
        classes = read_bundle(folder).spec.label_scheme.names
        for record in history:
            tracker.metrics(epoch_figures(record, classes), step=record.epoch)
    if state.outcome is None:
        tracker.finish("KILLED")
        return
    held_out = len(data.validation) if data else state.outcome.cases
    tracker.metrics(final_figures(state.outcome, state.seconds), step=len(state.history))
    tracker.tags(final_tags(state.outcome, held_out))
    for path in (folder / name for name in FINAL_FILES):
        if path.is_file():
            tracker.artifact(path)
    tracker.finish("FINISHED")


def _unchanged_data(work: Path, state: RunState) -> TrainingSet | None:
    """What the run was trained on; None, with a line that says so, if the work folder has something else by now."""
    options = state.identity.options
    try:
        data = read_training_set(work, options["fold"], options.get("configuration"))
    except (PlanError, TrainingError):
        data = None
    if data is None or not state.identity.is_made_from(data):
        log.warning("plan or dataset have changed since the training: they are not sent")
        return None
    if state.choice is not None:
        return replace(data, name=state.choice.name, configuration=state.choice.configuration)
    return data
