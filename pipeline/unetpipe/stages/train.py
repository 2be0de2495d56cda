"""Train one fold, or several: preprocessed cases in, MONAI bundles out.

A run's folder is a bundle from the first epoch on, and holds besides it `checkpoint.pt`, `best.pt`, `metrics.jsonl`,
`curves.png`, `config.yaml` and, at the end, `validation/` with the labels predicted for the held-out cases.
"""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from unetpipe.bundle.initial import read_initial_model
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import choose_folds, read_folds
from unetpipe.dataset.planning.plan import Plan
from unetpipe.dataset.run_folders import run_folder
from unetpipe.documents import Record
from unetpipe.errors import TrainingError
from unetpipe.extensions import load_extensions
from unetpipe.files import write_text
from unetpipe.folder_lock import claimed
from unetpipe.imaging.size_limit import reading_at_most
from unetpipe.networks.determinism import deterministic
from unetpipe.networks.device import resolve_device
from unetpipe.progress import Progress, SilentProgress
from unetpipe.report.run_figures import mean_figures
from unetpipe.stages.run_recorder import FolderRecorder
from unetpipe.stop_signals import stop_requested
from unetpipe.tracking.background import OpenTracker
from unetpipe.tracking.named import find_tracker
from unetpipe.tracking.parent import note_run, noted_run, submission_run
from unetpipe.tracking.run import folds_parameters, tracked, tracked_datasets, training_parameters
from unetpipe.tracking.tracker import TrackedRun
from unetpipe.training.budget_choice import BudgetChoice
from unetpipe.training.checkpoint import load_checkpoint
from unetpipe.training.distributed.devices import rank_device
from unetpipe.training.distributed.group import Group, joined
from unetpipe.training.distributed.launcher import launch
from unetpipe.training.distributed.ranks import find_ranks
from unetpipe.training.first_state import first_state
from unetpipe.training.one_split import folds_of_another_split
from unetpipe.training.outcome import TrainingOutcome, mean_over_folds
from unetpipe.training.recorder import NullRecorder, RunRecorder
from unetpipe.training.run_identity import RunIdentity, own_folder, run_options
from unetpipe.training.setup import Setup
from unetpipe.training.state import RunState
from unetpipe.training.trainer import Trainer
from unetpipe.yaml_text import dump_yaml

log = logging.getLogger(__name__)


class TrainResult(TrainingOutcome):
    """The result of `train` for one fold.

    Attributes:
        fold: Number of the fold whose cases were held out.
        bundle: The run's folder, a MONAI bundle.
        tracking_run: Id of the tracking run; None where no store answered.
    """

    fold: int
    bundle: Path
    tracking_run: str | None


class FoldRow(Record):
    """Result of one fold in a table of several."""

    fold: int
    epochs: int
    seconds: float
    cases: int
    mean_dice: float | None
    bundle: Path


class FoldsResult(Record):
    """The result of `train` for several folds.

    Attributes:
        folds: A row for each fold.
        dice: Mean over the folds of each foreground class's Dice.
        tracking_run: Id of the tracking run that those of the folds are part of; None where no store answered.
    """

    folds: tuple[FoldRow, ...]
    dice: dict[str, float | None]
    tracking_run: str | None

    @classmethod
    def of(cls, results: Sequence[TrainResult], tracking_run: str | None) -> "FoldsResult":
        """Sum up the results of single folds."""
        return cls(
            folds=tuple(FoldRow.model_validate(one.model_dump(include=set(FoldRow.model_fields))) for one in results),
            dice=mean_over_folds(results),
            tracking_run=tracking_run,
        )


def train(config: TrainConfig, progress: Progress | None = None) -> TrainResult | FoldsResult:
    """Train, validate and package the fold that `config.fold` names, or one after the other those of `config.folds`.

    A run that was interrupted goes on; one that is finished is left alone, and its result is returned again.

    With `config.gpus` above 1 so many processes are started, of which the first one shows progress on stderr. In a
    process that `torchrun` or `srun` has started with others, this one is one of those that train together.

    Args:
        config: Options of training.
        progress: Shows how far training is; nothing is shown unless given.

    Returns:
        A `FoldsResult` where `config.folds` names folds, else a `TrainResult`.

    Raises:
        ExtensionError: If an extension is not there or fails while it is imported.
        TrainingError: If there is nothing to train on, a run was started with different options, or the loss is NaN
            or infinite.
        UnetpipeError: If another process trains this run.
        KeyboardInterrupt: If a signal asked to stop. Everything is saved, and the same call goes on from there.
    """
    ranks = find_ranks(os.environ)
    if ranks.size == 1 and config.gpus > 1:
        launch(config, config.gpus)
        return _finished(config)
    if config.gpus not in (1, ranks.local_size):
        raise TrainingError(f"--gpus {config.gpus}, but {ranks.local_size} processes were started on this machine")
    # preprocess has seen to it that scans are of a size that may be read
    with (
        reading_at_most(sys.maxsize),
        joined(ranks) as group,
        rank_device(ranks, resolve_device(config.device)) as device,
        deterministic(config.deterministic, device),
    ):
        load_extensions(config.extension)
        find_tracker(config.tracking)
        progress = progress if progress and group.rank == 0 else SilentProgress()
        if config.folds is None:
            return _train_fold(config, group, device, progress)
        return _train_folds(config, group, device, progress)


def _train_folds(config: TrainConfig, group: Group, device: torch.device, progress: Progress) -> FoldsResult:
    folds = _each_fold(config)
    folder = _run_of_folds(config)
    run = TrackedRun(work=config.work, name=config.run_name, run_id=noted_run(folder), parent_id=submission_run())
    tracker = config.tracking if group.rank == 0 else "none"
    with tracked(tracker, run, folds_parameters(run_options(config)), known=partial(note_run, folder)) as parent:
        results = [_train_fold(one, group, device, progress, parent) for one in folds]
        parent.metrics(mean_figures(results), step=len(results))
    return FoldsResult.of(results, parent.run_id)


def _train_fold(
    config: TrainConfig, group: Group, device: torch.device, progress: Progress, parent: OpenTracker | None = None
) -> TrainResult:
    initial = None if config.init is None else read_initial_model(config.init)
    setup = Setup.of(config, group, device, initial)
    identity, state = RunIdentity.of(config, setup.data, initial), load_checkpoint(setup.folder)
    _require_same_on_all_ranks(group, identity, state)
    name = f"{config.run_name}/fold_{config.fold}"
    if state is not None:
        if changes := state.identity.changes(identity):
            raise TrainingError(
                f"run {name} was started with different options ({'; '.join(changes)}): "
                "take the same options, or another --run-name"
            )
        if state.outcome is not None:
            log.info("run %s is finished", name)
            return _result(config, state, state.outcome)
        log.info("run %s goes on after epoch %d", name, len(state.history))
    if state is None:
        _require_one_split(config)
        if initial is not None and setup.start is not None:
            initial.report(setup.start)
        state = first_state(setup, identity)
    if state.choice is not None:
        _require_chosen(setup.data.plan, state.choice, name)
        setup = setup.following(state.choice.name, state.choice.configuration)
    with _recorder(setup, state, progress, parent) as recorder, stop_requested() as stop:
        outcome = Trainer(setup, state, recorder, progress).train(stop)
    return _result(config, state, outcome)


def _require_one_split(config: TrainConfig) -> None:
    """Begin no fold in a run whose other folds are of the split that the work folder had before.

    Raises:
        TrainingError: If there is such a fold.
    """
    if other := folds_of_another_split(_run_of_folds(config), read_folds(config.work).folds):
        raise TrainingError(
            f"run {config.run_name}: fold {', '.join(map(str, other))} was trained with another split than folds.json "
            "has now: take another --run-name"
        )


def _require_chosen(plan: Plan, choice: BudgetChoice, name: str) -> None:
    """See that cases of the configuration that a budget chose are preprocessed as they were then.

    Raises:
        TrainingError: If the plan has another voxel size, or another interpolation, by now.
    """
    planned, chosen = plan.configurations.get(choice.name), choice.configuration
    if planned is None or (planned.spacing_mm, planned.interpolation) != (chosen.spacing_mm, chosen.interpolation):
        raise TrainingError(
            f"run {name} was started with different options ({choice.name} of plan.yaml has changed): "
            "take the same options, or another --run-name"
        )


def _require_same_on_all_ranks(group: Group, identity: RunIdentity, state: RunState | None) -> None:
    """Let no rank train along that was started for something else, or sees another checkpoint.

    Raises:
        TrainingError: On every rank; names one that differs from the first, and in what.
    """
    iteration = state.iteration if state else 0
    first, *others = group.gather([dict(identity.options), dict(identity.digests), iteration])
    for rank, other in enumerate(others, start=1):
        theirs = RunIdentity(options=other[0], digests=other[1])
        found = RunIdentity(options=first[0], digests=first[1]).contradictions(theirs)
        if first[2] != other[2]:
            found.append(f"a checkpoint of step {other[2]} and not {first[2]}")
        if found:
            raise TrainingError(f"process {rank} of this training has {'; '.join(found)}")


@contextmanager
def _recorder(setup: Setup, state: RunState, progress: Progress, parent: OpenTracker | None) -> Iterator[RunRecorder]:
    """Hold the run's folder and its tracking run, on the rank that writes."""
    if setup.group.rank > 0:
        yield NullRecorder()
        return
    config, name = setup.config, f"{setup.folder.parent.name}/{setup.folder.name}"
    with claimed(setup.folder, f"run {name}") as claim:
        write_text(setup.folder / "config.yaml", dump_yaml(dict(state.identity.options)))
        run = TrackedRun(
            work=config.work,
            name=name,
            run_id=state.tracking_run,
            parent_id=submission_run(),
            datasets=tracked_datasets(config.work, setup.data),
        )
        with tracked(config.tracking, run, training_parameters(state, setup.data) | _start(setup), parent) as tracker:
            recorder = FolderRecorder(setup, state, claim, tracker, progress)
            yield recorder
        recorder.finish(state)


def _start(setup: Setup) -> dict[str, object]:
    """The model that training starts from, as a parameter of the run."""
    return {} if setup.initial is None else {"init": setup.initial.plan.model_dump(include={"name", "digest"})}


def _each_fold(config: TrainConfig) -> list[TrainConfig]:
    """The config of each fold that is to be trained."""
    folds = choose_folds(config.folds or str(config.fold), len(read_folds(config.work).folds))
    return [config.model_copy(update={"fold": fold, "folds": None}) for fold in folds]


def _finished(config: TrainConfig) -> TrainResult | FoldsResult:
    """The result of what other processes have trained, from its checkpoints."""
    results = []
    for one in _each_fold(config):
        state = load_checkpoint(own_folder(one))
        if state is None or state.outcome is None:
            raise TrainingError(f"run {one.run_name}/fold_{one.fold} has not come to its end")
        results.append(_result(one, state, state.outcome))
    return results[0] if config.folds is None else FoldsResult.of(results, noted_run(_run_of_folds(config)))


def _result(config: TrainConfig, state: RunState, outcome: TrainingOutcome) -> TrainResult:
    return TrainResult(
        **outcome.model_dump(), fold=config.fold, bundle=own_folder(config), tracking_run=state.tracking_run
    )


def _run_of_folds(config: TrainConfig) -> Path:
    """Folder of all folds of a run."""
    return run_folder(config.work, config.run_name)
