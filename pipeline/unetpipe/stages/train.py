"""Train one fold: preprocessed cases in, a MONAI bundle out.

Reads top to bottom: what to train on, what network for how long, the epochs, the held-out cases at the end. The run
folder is a bundle from the first epoch on, and holds besides it `checkpoint.pt`, `metrics.jsonl`, `curves.png`,
`config.yaml` and, at the end, `validation/` with the labels predicted for the held-out cases.
"""

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import torch
import yaml
from torch import Tensor

import unetpipe
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.write import write_bundle
from unetpipe.config import Config, TrainConfig
from unetpipe.dataset.training_set import TrainingSet, read_training_set
from unetpipe.errors import TrainingError
from unetpipe.files import write_text
from unetpipe.imaging.geometry import Shape
from unetpipe.model.augment import Augmentation, source_shape
from unetpipe.model.budget import Budget
from unetpipe.model.checkpoint import State, load_checkpoint, save_checkpoint
from unetpipe.model.device import compute_dtype, resolve_device
from unetpipe.model.fit import fit_to_time
from unetpipe.model.holdout import HeldOut
from unetpipe.model.interrupt import stop_requested
from unetpipe.model.learner import Learner
from unetpipe.model.loader import PatchLoader
from unetpipe.model.network import Definition, network_definition
from unetpipe.model.optim import choose_recipe
from unetpipe.model.symmetry import mirror_axes
from unetpipe.progress import Progress, SilentProgress
from unetpipe.report.journal import Journal, results_table
from unetpipe.tracking import MlflowTracker, Status, Tracker

_MEASURED_STEPS = 3  # the first warms up
_SAVING_SECONDS = 5.0
_CACHE_SHARE = 0.25  # of free memory that the training set may fill


class TrainResult(Config):
    """What `train` made.

    Attributes:
        bundle: The run folder, a MONAI bundle.
        dice: Mean over the held-out cases, on their own grids; None where no case has the class.
        mean_dice: Mean over classes.
    """

    bundle: Path
    fold: int
    epochs: int
    iterations: int
    seconds: float
    features: tuple[int, ...]
    dice: dict[str, float | None]
    mean_dice: float | None
    tracking_run: str | None


def train(config: TrainConfig, progress: Progress | None = None) -> TrainResult:
    """Train, validate and package one fold.

    Args:
        config: What to do.
        progress: Who is told; nobody by default.

    Raises:
        TrainingError: If there is nothing to train on, the run exists and is not to be resumed, or the loss is not a
            number.
        KeyboardInterrupt: If a signal asked to stop: everything is saved, and `resume` goes on from there.
    """
    started = time.monotonic()
    progress = progress or SilentProgress()
    data = read_training_set(config.work, config.fold, config.configuration)
    folder = config.work / "runs" / config.run_name / f"fold_{config.fold}"
    device = resolve_device(config.device)
    dtype = compute_dtype(device, config.precision)
    state = load_checkpoint(folder)
    if state is not None and not config.resume:
        raise TrainingError(
            f"run {config.run_name}/fold_{config.fold} exists: go on with --resume, or choose another --run-name"
        )
    locations = (data.store.record(case).locations for case in data.training)
    augmentation = Augmentation(mirror_axes=mirror_axes(locations, data.manifest.spatial_dims))
    held_out = HeldOut(data.store, data.validation, data.manifest, data.configuration, device, dtype)
    if state is None:
        state = _decide(config, data, held_out, augmentation, device, dtype, started)
    budget = Budget(**state["budget"])
    learner = Learner(state["definition"], data.configuration.patch_size, budget.recipe, device, dtype, config.seed)
    if state["learner"]:
        learner.load_state(state["learner"])
    _write_config(config, folder)
    progress.say(_introduction(data, state["definition"], budget, device, learner.dtype))

    with _tracked(config, data, state, progress) as tracker:
        journal = Journal(folder, data.foreground, tracker, progress)
        offset = state["seconds"]

        def elapsed() -> float:
            return float(offset + time.monotonic() - started)

        def package(results: str = "") -> None:
            spec = _spec(data, augmentation, tracker.run_id)
            write_bundle(folder, spec, state["definition"], learner.weights(), results=results)

        loader = _loader(config, data, augmentation)
        with stop_requested() as stop, closing(loader.batches(first=state["iteration"])) as batches:
            while budget.progress(state["iteration"], elapsed()) < 1:
                epoch_started = time.monotonic()
                losses, rate = [], 0.0
                with progress.task(f"epoch {state['epoch'] + 1}", budget.iterations) as advance:
                    for _ in range(budget.iterations):
                        now = budget.progress(state["iteration"], elapsed())
                        if now >= 1 or stop.is_set():
                            break
                        loss, rate = learner.step(next(batches), now, augmentation)
                        losses.append(loss)
                        state["iteration"] += 1
                        advance()
                if losses:
                    learning_seconds = time.monotonic() - epoch_started
                    state["history"].append(
                        {
                            "epoch": state["epoch"],
                            "iteration": state["iteration"],
                            "loss": _mean(losses, state["iteration"]),
                            "learning_rate": rate,
                            "dice": held_out.dice(learner.network, at_most_seconds=learning_seconds / 10),
                            "seconds": round(time.monotonic() - epoch_started, 3),
                            "patches_per_second": round(len(losses) * loader.batch_size / learning_seconds, 3),
                        }
                    )
                    state["epoch"] += 1
                    journal.epoch(state["history"])
                state["seconds"], state["learner"] = elapsed(), learner.state()
                state["tracking_run"] = tracker.run_id
                save_checkpoint(folder, state)
                package()
                if stop.is_set():
                    raise KeyboardInterrupt

        with progress.task("held-out cases", len(data.validation)) as advance:
            dice = held_out.predict_all(learner.network, folder / "validation", advance)
        results = results_table(dice, len(data.validation))
        package(results)
        journal.end(dice, elapsed(), state["epoch"], held_out.example(learner.network))
    if tracker.run_id != state["tracking_run"]:  # in a short run the store has answered only now
        package(results)
    known = [value for value in dice.values() if value is not None]
    return TrainResult(
        bundle=folder,
        fold=config.fold,
        epochs=state["epoch"],
        iterations=state["iteration"],
        seconds=round(elapsed(), 1),
        features=_features(state["definition"]),
        dice=dice,
        mean_dice=float(np.mean(known)) if known else None,
        tracking_run=tracker.run_id,
    )


def _mean(losses: list[Tensor], iteration: int) -> float:
    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise TrainingError(f"the loss is not a number after {iteration} steps: try --precision fp32")
    return mean


def _spec(data: TrainingSet, augmentation: Augmentation, tracking_run: str | None) -> ModelSpec:
    return ModelSpec(
        spatial_dims=data.manifest.spatial_dims,
        channels=data.manifest.channels,
        labels=data.manifest.labels,
        preprocessing=data.plan.preprocessing(data.name),
        patch_size=data.configuration.patch_size,
        mirror_axes=augmentation.mirror_axes,
        tracking_run=tracking_run,
    )


def _decide(
    config: TrainConfig,
    data: TrainingSet,
    held_out: HeldOut,
    augmentation: Augmentation,
    device: torch.device,
    dtype: torch.dtype,
    started: float,
) -> State:
    """Choose network and budget; for a limit in minutes by measuring what this device can do with it."""
    fit = None
    if config.max_minutes is not None:

        def measure(features: tuple[int, ...]) -> tuple[float, float]:
            definition = _definition(config, data, features)
            learner = Learner(definition, data.configuration.patch_size, choose_recipe(0), device, dtype, config.seed)
            step_seconds = _measure_step(learner, _loader(config, data, augmentation), augmentation)
            return step_seconds, _SAVING_SECONDS + 1.5 * held_out.measure(learner.network) * len(data.validation)

        fit = fit_to_time(data.configuration.features, measure, limit_seconds=config.max_minutes * 60, started=started)
    budget = Budget.plan(epochs=config.epochs, iterations=config.iterations, fit=fit)
    return {
        "definition": _definition(config, data, fit.features if fit else data.configuration.features),
        "budget": asdict(budget),
        "epoch": 0,
        "iteration": 0,
        "seconds": 0.0,
        "history": [],
        "tracking_run": None,
        "learner": {},
    }


def _definition(config: TrainConfig, data: TrainingSet, features: tuple[int, ...]) -> Definition:
    return network_definition(
        config.network, data.configuration, len(data.manifest.channels), len(data.manifest.labels), features
    )


def _measure_step(learner: Learner, loader: PatchLoader, augmentation: Augmentation) -> float:
    """Seconds per optimiser step."""
    batches = loader.batches()
    times = []
    for _ in range(_MEASURED_STEPS):
        before = time.monotonic()
        loss, _rate = learner.step(next(batches), 0.0, augmentation)
        loss.item()
        times.append(time.monotonic() - before)
    batches.close()
    return min(times[1:])


def _loader(config: TrainConfig, data: TrainingSet, augmentation: Augmentation) -> PatchLoader:
    patch: Shape = data.configuration.patch_size
    return PatchLoader(
        store=data.store,
        ids=data.training,
        patch=patch,
        source=source_shape(patch, augmentation),
        batch_size=data.configuration.batch_size,
        seed=config.seed,
        cache=data.training_bytes < _CACHE_SHARE * psutil.virtual_memory().available,
    )


@contextmanager
def _tracked(config: TrainConfig, data: TrainingSet, state: State, progress: Progress) -> Iterator[Tracker]:
    """Open the tracking run and close it with the status that fits how the block ends."""
    tracker = MlflowTracker(config.work, f"{config.run_name}/fold_{config.fold}", state["tracking_run"], progress)
    tracker.parameters(
        {
            "config": config.model_dump(mode="json", exclude={"work"}),
            "configuration": data.configuration.model_dump(mode="json"),
            "network": state["definition"],
            "budget": state["budget"],
            "cases": {"training": len(data.training), "validation": len(data.validation)},
        }
    )
    tracker.tags(
        {
            "dataset": _digest(config.work / "fingerprint.json"),
            "plan": _digest(config.work / "plan.yaml"),
            "unetpipe": unetpipe.__version__,
            "torch": torch.__version__,
        }
    )
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


def _write_config(config: TrainConfig, folder: Path) -> None:
    values = config.model_dump(mode="json", exclude={"work"})
    write_text(folder / "config.yaml", yaml.safe_dump(values, sort_keys=False))


def _introduction(
    data: TrainingSet, definition: Definition, budget: Budget, device: torch.device, dtype: torch.dtype
) -> str:
    features = " ".join(map(str, _features(definition)))
    length = f"{budget.seconds / 60:.1f} minutes" if budget.seconds else f"{budget.epochs} epochs"
    return (
        f"{data.name}: {len(data.training)} cases to train on, {len(data.validation)} held out; features {features}; "
        f"patch {' '.join(map(str, data.configuration.patch_size))}; batch {data.configuration.batch_size}; {length}, "
        f"{budget.iterations} steps an epoch, {budget.recipe}; {device.type} {str(dtype).removeprefix('torch.')}"
    )


def _features(definition: Definition) -> tuple[int, ...]:
    return tuple(definition.get("filters") or definition["features"])
