"""Train one fold, or several: preprocessed cases in, a MONAI bundle out.

Reads top to bottom: what to train on, what network for how long, the epochs, the held-out cases at the end. The run
folder is a bundle from the first epoch on, and holds besides it `checkpoint.pt`, `best.pt`, `metrics.jsonl`,
`curves.png`, `config.yaml` and, at the end, `validation/` with the labels predicted for the held-out cases.
"""

import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path

import yaml

from unetpipe.config import TrainConfig
from unetpipe.dataset.folds import choose_folds, read_folds
from unetpipe.documents import Record
from unetpipe.errors import TrainingError
from unetpipe.extensions import load_extensions
from unetpipe.files import write_text
from unetpipe.networks.build import network_features
from unetpipe.progress import Progress, SilentProgress
from unetpipe.stages.fold import Fold
from unetpipe.tracking.background import OpenTracker
from unetpipe.tracking.named import find_tracker
from unetpipe.tracking.run import tracked
from unetpipe.tracking.tracker import TrackedRun
from unetpipe.training.checkpoint import (
    claimed,
    first_state,
    load_checkpoint,
    require_same,
    run_config,
    save_checkpoint,
)
from unetpipe.training.distributed import Ranks, together
from unetpipe.training.setup import Setup
from unetpipe.training.signals import stop_requested
from unetpipe.training.worker import follow, order_to_follow

log = logging.getLogger(__name__)


class TrainResult(Record):
    """What `train` made.

    Attributes:
        bundle: The run folder, a MONAI bundle.
        weights: That the bundle holds.
        dice: Mean over `cases`, on their own grids; None where no case has the class.
        mean_dice: Mean over classes.
        cases: Held-out cases that the figures are over.
        blind: Whether none of them chose the weights or the end of training.
    """

    bundle: Path
    fold: int
    epochs: int
    iterations: int
    seconds: float
    features: tuple[int, ...]
    weights: str
    dice: dict[str, float | None]
    mean_dice: float | None
    cases: int
    blind: bool
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
    """What `train_folds` made; `dice` is the mean over the folds."""

    folds: tuple[FoldRow, ...]
    dice: dict[str, float | None]
    tracking_run: str | None


def train(config: TrainConfig, progress: Progress | None = None) -> TrainResult:
    """Train, validate and package one fold; go on with it if it was interrupted; leave it alone if it is finished.

    Args:
        config: What to do.
        progress: Who is told; nobody by default.

    Raises:
        ExtensionError: If an extension is not there or fails while it is imported.
        TrainingError: If there is nothing to train on, the run began with another config, or the loss is not a number.
        KeyboardInterrupt: If a signal asked to stop: everything is saved, and the same call goes on from there.
    """
    return _train(config, progress or SilentProgress(), parent=None)


def train_folds(config: TrainConfig, progress: Progress | None = None) -> FoldsResult:
    """Train the folds that `config.folds` names one after the other, each as `train` does.

    Raises:
        TrainingError: As `train`, or if a fold is not there.
    """
    progress = progress or SilentProgress()
    load_extensions(config.extension)
    if Ranks.of(config.gpus).started:
        raise TrainingError("--folds starts its own processes (--gpus): under torchrun, name one --fold")
    folds = choose_folds(config.folds or "all", len(read_folds(config.work).folds))
    note = config.work / "runs" / config.run_name / "tracking_run"
    known = note.read_text(encoding="utf-8") if note.is_file() else None
    results: list[TrainResult] = []
    asked = {name: value for name, value in run_config(config).items() if name != "fold"}
    run = TrackedRun(work=config.work, name=config.run_name, run_id=known)
    with tracked(config.tracking, run, {"config": asked}) as parent:
        try:
            for fold in folds:
                one = config.model_copy(update={"fold": fold, "folds": None})
                results.append(_train(one, progress, parent))
        finally:
            if parent.run_id:
                write_text(note, parent.run_id)
        dice = {name: _mean(result.dice[name] for result in results) for name in results[0].dice}
        parent.metrics({f"final_dice/{name}": value for name, value in dice.items() if value is not None}, step=0)
    rows = tuple(FoldRow.model_validate(result.model_dump(include=set(FoldRow.model_fields))) for result in results)
    return FoldsResult(folds=rows, dice=dice, tracking_run=parent.run_id)


def _train(config: TrainConfig, progress: Progress, parent: OpenTracker | None) -> TrainResult:
    started = time.monotonic()
    load_extensions(config.extension)
    find_tracker(config.tracking)
    ranks = Ranks.of(config.gpus)
    setup = Setup.of(config, ranks)
    name = f"{config.run_name}/fold_{config.fold}"
    folder = config.work / "runs" / name
    state = load_checkpoint(folder)
    if state is not None:
        require_same(state, config, setup.data)
        if state["result"] is not None:
            log.info("run %s is finished", name)
            return TrainResult(bundle=folder, **state["result"])
        log.info("run %s goes on after epoch %d", name, state["epoch"])
    if ranks.rank > 0:
        with together(ranks, setup.device, config) as group:
            follow(setup, group, state)
            return TrainResult(bundle=folder, **json.loads(group.share()))
    held_out = setup.held_out()
    if state is None:
        state = first_state(config, setup.data, *setup.decide(held_out, started))
    parameters = {
        "config": state["config"],
        "configuration": setup.data.configuration.model_dump(mode="json"),
        "network": state["definition"],
        "budget": state["budget"],
        "cases": {"training": len(setup.data.training), "validation": len(setup.data.validation)},
    }
    run = TrackedRun(work=config.work, name=name, run_id=state["tracking_run"])
    with claimed(folder), together(ranks, setup.device, config) as group:
        write_text(folder / "config.yaml", yaml.safe_dump(state["config"], sort_keys=False))
        group.share(order_to_follow(state))
        with tracked(config.tracking, run, parameters, parent) as tracker:
            fold = Fold(setup, held_out, folder, state, group, tracker, progress, started)
            with stop_requested() as stop:
                fold.learn(stop)
                validation = fold.validate(stop)
        fold.renew_card(validation)  # in a short run the store has answered only now
        result = TrainResult(
            bundle=folder,
            fold=config.fold,
            epochs=state["epoch"],
            iterations=state["iteration"],
            seconds=round(fold.elapsed(), 1),
            features=network_features(state["definition"]),
            weights=validation.weights,
            dice=dict(validation.dice),
            mean_dice=_mean(validation.dice.values()),
            cases=validation.cases,
            blind=validation.blind,
            tracking_run=tracker.run_id,
        )
        state["result"] = result.model_dump(mode="json", exclude={"bundle"})
        save_checkpoint(folder, state)
        group.share(json.dumps(state["result"]))
    return result


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
