"""Train one fold: preprocessed cases in, a MONAI bundle out.

Reads top to bottom: what to train on, what network for how long, the epochs, the held-out cases at the end. The run
folder is a bundle from the first epoch on, and holds besides it `checkpoint.pt`, `metrics.jsonl`, `curves.png`,
`config.yaml` and, at the end, `validation/` with the labels predicted for the held-out cases.
"""

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
import yaml

import unetpipe
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.write import write_bundle
from unetpipe.config import Config, TrainConfig
from unetpipe.dataset.folds import read_folds
from unetpipe.dataset.manifest import Manifest, read_manifest
from unetpipe.dataset.plan import Configuration, Plan, read_plan
from unetpipe.dataset.store import CaseStore
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


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What there is to learn."""

    manifest: Manifest
    plan: Plan
    name: str
    configuration: Configuration
    store: CaseStore
    training: tuple[str, ...]
    validation: tuple[str, ...]
    mirror_axes: tuple[int, ...]
    folder: Path

    @property
    def classes(self) -> list[str]:
        return [label.name for label in self.manifest.labels[1:]]

    @property
    def training_bytes(self) -> int:
        """Of the training cases' arrays, which are float16, when they are all in memory."""
        voxels = sum(math.prod(self.store.record(case).placement.shape) for case in self.training)
        return 2 * (len(self.manifest.channels) + 1) * voxels

    def spec(self, tracking_run: str | None) -> ModelSpec:
        return ModelSpec(
            spatial_dims=self.manifest.spatial_dims,
            channels=self.manifest.channels,
            labels=self.manifest.labels,
            preprocessing=self.plan.preprocessing(self.name),
            patch_size=self.configuration.patch_size,
            mirror_axes=self.mirror_axes,
            tracking_run=tracking_run,
        )


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
    task = _read_task(config)
    device = resolve_device(config.device)
    dtype = compute_dtype(device, config.precision)
    state = load_checkpoint(task.folder)
    if state is not None and not config.resume:
        raise TrainingError(
            f"run {config.run_name}/fold_{config.fold} exists: go on with --resume, or choose another --run-name"
        )
    augmentation = Augmentation(mirror_axes=task.mirror_axes)
    held_out = HeldOut(task.store, task.validation, task.manifest, task.configuration, device, dtype)
    if state is None:
        state = _decide(config, task, held_out, augmentation, device, dtype, started)
    budget = Budget(**state["budget"])
    learner = Learner(state["definition"], task.configuration.patch_size, budget.recipe, device, dtype, config.seed)
    if state["learner"]:
        learner.load_state(state["learner"])
    _write_config(config, task.folder)
    progress.say(_introduction(task, state["definition"], budget, device, dtype))

    with _tracked(config, task, state, progress) as tracker, stop_requested() as stop:
        journal = Journal(task.folder, task.classes, tracker, progress)
        loader = _loader(config, task, augmentation)
        batches = loader.batches(first=state["iteration"])
        offset = state["seconds"]

        def elapsed() -> float:
            return float(offset + time.monotonic() - started)

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
                mean_loss = float(torch.stack(losses).mean())
                if not np.isfinite(mean_loss):
                    raise TrainingError(
                        f"the loss is not a number after {state['iteration']} steps: try --precision fp32"
                    )
                learning_seconds = time.monotonic() - epoch_started
                row = {
                    "epoch": state["epoch"],
                    "iteration": state["iteration"],
                    "loss": mean_loss,
                    "learning_rate": rate,
                    "dice": held_out.dice(learner.network, at_most_seconds=learning_seconds / 10),
                    "seconds": round(time.monotonic() - epoch_started, 3),
                    "patches_per_second": round(len(losses) * loader.batch_size / learning_seconds, 3),
                }
                state["history"].append(row)
                state["epoch"] += 1
                journal.epoch(state["history"])
            state["seconds"], state["learner"] = elapsed(), learner.state()
            state["tracking_run"] = tracker.run_id
            save_checkpoint(task.folder, state)
            write_bundle(task.folder, task.spec(tracker.run_id), state["definition"], learner.weights())
            if stop.is_set():
                raise KeyboardInterrupt
        batches.close()

        with progress.task("held-out cases", len(task.validation)) as advance:
            dice = held_out.predict_all(learner.network, task.folder / "validation", advance)
        results = results_table(dice, len(task.validation))
        write_bundle(task.folder, task.spec(tracker.run_id), state["definition"], learner.weights(), results=results)
        journal.end(dice, elapsed(), state["epoch"], held_out.example(learner.network))
    if tracker.run_id != state["tracking_run"]:  # in a short run the store has answered only now
        write_bundle(task.folder, task.spec(tracker.run_id), state["definition"], learner.weights(), results=results)
    known = [value for value in dice.values() if value is not None]
    return TrainResult(
        bundle=task.folder,
        fold=config.fold,
        epochs=state["epoch"],
        iterations=state["iteration"],
        seconds=round(elapsed(), 1),
        features=_features(state["definition"]),
        dice=dice,
        mean_dice=float(np.mean(known)) if known else None,
        tracking_run=tracker.run_id,
    )


def _read_task(config: TrainConfig) -> _Task:
    manifest, plan, folds = read_manifest(config.work), read_plan(config.work), read_folds(config.work)
    name = config.configuration or plan.default
    if name not in plan.configurations:
        raise TrainingError(f"the plan has configurations {', '.join(plan.configurations)}, not {name}")
    if not 0 <= config.fold < len(folds.folds):
        raise TrainingError(f"fold must be from 0 to {len(folds.folds) - 1}, got {config.fold}")
    store = CaseStore(config.work, name)
    fold = folds.folds[config.fold]
    missing = sorted({*fold.train, *fold.validation} - set(store.ids))
    if missing:
        raise TrainingError(
            f"{len(missing)} cases are not preprocessed for {name}, such as {missing[0]}: run unetpipe preprocess again"
        )
    return _Task(
        manifest=manifest,
        plan=plan,
        name=name,
        configuration=plan.configurations[name],
        store=store,
        training=fold.train,
        validation=fold.validation,
        mirror_axes=mirror_axes((store.record(case).locations for case in fold.train), manifest.spatial_dims),
        folder=config.work / "runs" / config.run_name / f"fold_{config.fold}",
    )


def _decide(
    config: TrainConfig,
    task: _Task,
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
            definition = _definition(config, task, features)
            learner = Learner(definition, task.configuration.patch_size, choose_recipe(0), device, dtype, config.seed)
            step_seconds = _measure_step(learner, _loader(config, task, augmentation), augmentation)
            return step_seconds, _SAVING_SECONDS + 1.5 * held_out.measure(learner.network) * len(task.validation)

        fit = fit_to_time(task.configuration.features, measure, limit_seconds=config.max_minutes * 60, started=started)
    budget = Budget.plan(epochs=config.epochs, iterations=config.iterations, fit=fit)
    return {
        "definition": _definition(config, task, fit.features if fit else task.configuration.features),
        "budget": asdict(budget),
        "epoch": 0,
        "iteration": 0,
        "seconds": 0.0,
        "history": [],
        "tracking_run": None,
        "learner": {},
    }


def _definition(config: TrainConfig, task: _Task, features: tuple[int, ...]) -> Definition:
    return network_definition(
        config.network, task.configuration, len(task.manifest.channels), len(task.manifest.labels), features
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


def _loader(config: TrainConfig, task: _Task, augmentation: Augmentation) -> PatchLoader:
    patch: Shape = task.configuration.patch_size
    return PatchLoader(
        store=task.store,
        ids=task.training,
        patch=patch,
        source=source_shape(patch, augmentation),
        batch_size=task.configuration.batch_size,
        seed=config.seed,
        cache=task.training_bytes < _CACHE_SHARE * psutil.virtual_memory().available,
    )


@contextmanager
def _tracked(config: TrainConfig, task: _Task, state: State, progress: Progress) -> Iterator[Tracker]:
    """Open the tracking run and close it with the status that fits how the block ends."""
    tracker = MlflowTracker(config.work, f"{config.run_name}/fold_{config.fold}", state["tracking_run"], progress)
    tracker.parameters(
        {
            "config": config.model_dump(mode="json", exclude={"work"}),
            "configuration": task.configuration.model_dump(mode="json"),
            "network": state["definition"],
            "budget": state["budget"],
            "cases": {"training": len(task.training), "validation": len(task.validation)},
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


def _introduction(task: _Task, definition: Definition, budget: Budget, device: torch.device, dtype: torch.dtype) -> str:
    features = " ".join(map(str, _features(definition)))
    length = f"{budget.seconds / 60:.1f} minutes" if budget.seconds else f"{budget.epochs} epochs"
    return (
        f"{task.name}: {len(task.training)} cases to train on, {len(task.validation)} held out; features {features}; "
        f"patch {' '.join(map(str, task.configuration.patch_size))}; batch {task.configuration.batch_size}; {length}, "
        f"{budget.iterations} steps an epoch, {budget.recipe}; {device.type} {str(dtype).removeprefix('torch.')}"
    )


def _features(definition: Definition) -> tuple[int, ...]:
    return tuple(definition.get("filters") or definition["features"])
