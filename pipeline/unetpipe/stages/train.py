"""Train one fold, or several: preprocessed cases in, MONAI bundles out.

A run's folder is a bundle from the first epoch on, and holds besides it `checkpoint.pt`, `best.pt`, `metrics.jsonl`,
`curves.png`, `config.yaml` and, at the end, `validation/` with the labels predicted for the held-out cases.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
import yaml

from unetpipe.config import TrainConfig
from unetpipe.dataset.folds import choose_folds, read_folds
from unetpipe.documents import Record
from unetpipe.errors import TrainingError
from unetpipe.extensions import load_extensions
from unetpipe.files import write_text
from unetpipe.networks.device import resolve_device
from unetpipe.progress import Progress, SilentProgress
from unetpipe.stages.run_recorder import FolderRecorder
from unetpipe.tracking.background import OpenTracker
from unetpipe.tracking.named import find_tracker
from unetpipe.tracking.run import tracked
from unetpipe.tracking.tracker import TrackedRun
from unetpipe.training.checkpoint import load_checkpoint
from unetpipe.training.distributed import Group, Ranks, together
from unetpipe.training.first_state import first_state
from unetpipe.training.outcome import TrainingOutcome, mean_of_known
from unetpipe.training.recorder import NullRecorder, RunRecorder
from unetpipe.training.run_identity import RunIdentity, run_options
from unetpipe.training.run_lock import claimed
from unetpipe.training.setup import Setup
from unetpipe.training.signals import stop_requested
from unetpipe.training.state import RunState
from unetpipe.training.trainer import Trainer

log = logging.getLogger(__name__)


class TrainResult(TrainingOutcome):
    """What `train` made of one fold.

    Attributes:
        fold: Which part of the cases was held out.
        bundle: The run's folder, a MONAI bundle.
        tracking_run: Id of the tracking run; None where no store answered.
    """

    fold: int
    bundle: Path
    tracking_run: str | None


class FoldRow(Record):
    """One fold of several."""

    fold: int
    epochs: int
    seconds: float
    cases: int
    mean_dice: float | None
    bundle: Path


class FoldsResult(Record):
    """What `train` made of several folds.

    Attributes:
        folds: A row for each fold.
        dice: Mean over the folds of each foreground class's Dice.
        tracking_run: Id of the tracking run that those of the folds are part of; None where no store answered.
    """

    folds: tuple[FoldRow, ...]
    dice: dict[str, float | None]
    tracking_run: str | None


def train(config: TrainConfig, progress: Progress | None = None) -> TrainResult | FoldsResult:
    """Train, validate and package the fold that `config.fold` names, or one after the other those of `config.folds`.

    A run that was interrupted goes on; one that is finished is left alone, and its result is returned again.

    Args:
        config: What to do.
        progress: Shows how far training is; nothing is shown unless given.

    Returns:
        A `FoldsResult` where `config.folds` names folds, else a `TrainResult`.

    Raises:
        ExtensionError: If an extension is not there or fails while it is imported.
        TrainingError: If there is nothing to train on, a run was started with different options, or the loss is NaN
            or infinite.
        KeyboardInterrupt: If a signal asked to stop. Everything is saved, and the same call goes on from there.
    """
    load_extensions(config.extension)
    find_tracker(config.tracking)
    ranks = Ranks.of(config.gpus)
    device = ranks.device(resolve_device(config.device))
    with together(ranks, device, config) as group:
        progress = progress if progress and group.rank == 0 else SilentProgress()
        if config.folds is None:
            return _train_fold(config, group, device, progress)
        return _train_folds(config, config.folds, group, device, progress)


def _train_folds(
    config: TrainConfig, named: str, group: Group, device: torch.device, progress: Progress
) -> FoldsResult:
    folds = choose_folds(named, len(read_folds(config.work).folds))
    note = config.work / "runs" / config.run_name / "tracking_run"
    known = note.read_text(encoding="utf-8") if note.is_file() else None
    options = {name: value for name, value in run_options(config).items() if name != "fold"}
    run = TrackedRun(work=config.work, name=config.run_name, run_id=known)
    results: list[TrainResult] = []
    tracker = config.tracking if group.rank == 0 else "none"
    with tracked(tracker, run, {"config": options}) as parent:
        try:
            for fold in folds:
                one = config.model_copy(update={"fold": fold, "folds": None})
                results.append(_train_fold(one, group, device, progress, parent))
        finally:
            if parent.run_id:
                write_text(note, parent.run_id)
        dice = {name: mean_of_known(result.dice[name] for result in results) for name in results[0].dice}
        parent.metrics({f"final_dice/{name}": value for name, value in dice.items() if value is not None}, step=0)
    rows = tuple(FoldRow.model_validate(result.model_dump(include=set(FoldRow.model_fields))) for result in results)
    return FoldsResult(folds=rows, dice=dice, tracking_run=parent.run_id)


def _train_fold(
    config: TrainConfig, group: Group, device: torch.device, progress: Progress, parent: OpenTracker | None = None
) -> TrainResult:
    setup = Setup.of(config, group, device)
    identity = RunIdentity.of(config, setup.data)
    name = f"{config.run_name}/fold_{config.fold}"
    state = load_checkpoint(setup.folder)
    if state is not None:
        if differences := state.identity.differences(identity):
            raise TrainingError(
                f"run {name} was started with different options ({'; '.join(differences)}): "
                "take the same options, or another --run-name"
            )
        if state.outcome is not None:
            log.info("run %s is finished", name)
            return _result(setup, state, state.outcome)
        log.info("run %s goes on after epoch %d", name, len(state.history))
    state = state or first_state(setup, identity)
    with _recorder(setup, state, progress, parent) as recorder, stop_requested() as stop:
        outcome = Trainer(setup, state, recorder, progress).train(stop)
    return _result(setup, state, outcome)


@contextmanager
def _recorder(setup: Setup, state: RunState, progress: Progress, parent: OpenTracker | None) -> Iterator[RunRecorder]:
    """Hold the run's folder and its tracking run, on the rank that writes."""
    if setup.group.rank > 0:
        yield NullRecorder()
        return
    config, name = setup.config, f"{setup.folder.parent.name}/{setup.folder.name}"
    with claimed(setup.folder):
        write_text(setup.folder / "config.yaml", yaml.safe_dump(dict(state.identity.options), sort_keys=False))
        run = TrackedRun(work=config.work, name=name, run_id=state.tracking_run)
        with tracked(config.tracking, run, _parameters(setup, state), parent) as tracker:
            recorder = FolderRecorder(setup, state, tracker, progress)
            yield recorder
        recorder.finish(state)


def _parameters(setup: Setup, state: RunState) -> dict[str, object]:
    """What the tracking store is told of a run: what was asked for, and what was decided."""
    return {
        "config": state.identity.options,
        "configuration": setup.data.configuration.model_dump(mode="json"),
        "network": state.definition,
        "budget": asdict(state.budget),
        "cases": {"training": len(setup.data.training), "validation": len(setup.data.validation)},
    }


def _result(setup: Setup, state: RunState, outcome: TrainingOutcome) -> TrainResult:
    return TrainResult(
        **outcome.model_dump(), fold=setup.config.fold, bundle=setup.folder, tracking_run=state.tracking_run
    )
