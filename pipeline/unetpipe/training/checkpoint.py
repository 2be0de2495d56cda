"""What a resume needs, in one file that is whole or not there; the one before is kept in case it is damaged."""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from unetpipe.config import TrainConfig
from unetpipe.dataset.training_set import TrainingSet
from unetpipe.errors import TrainingError
from unetpipe.extensions import extension_digest, extension_name
from unetpipe.files import atomic_path
from unetpipe.training.schedule import Budget

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
_LOCK = ".lock"
_ELSEWHERE = {"work", "folds"}  # fields that do not say what a run is

State = dict[str, Any]


def first_state(config: TrainConfig, data: TrainingSet, definition: dict[str, Any], budget: Budget) -> State:
    """What is known before the first step.

    Returns:
        Tensors and plain Python values only. `learner` is empty until there is something to go on from; `part` is the
        epoch that an interruption cut; `cooldown` is None until training was asked to come to its end, `result` until
        it is there.
    """
    return {
        "config": run_config(config),
        "made_from": _digests(data, config),
        "definition": definition,
        "budget": asdict(budget),
        "part": None,
        "cooldown": None,
        "epoch": 0,
        "iteration": 0,
        "seconds": 0.0,
        "history": [],
        "tracking_run": None,
        "learner": {},
        "result": None,
    }


def run_config(config: TrainConfig) -> dict[str, Any]:
    """The fields that say what a run is, as JSON has them: no path among them."""
    named = tuple(extension_name(extension) for extension in config.extension)
    return config.model_dump(mode="json", exclude=_ELSEWHERE) | {"extension": named}


def require_same(state: State, config: TrainConfig, data: TrainingSet) -> None:
    """Refuse to go on with another config, plan or split than a run began with.

    Raises:
        TrainingError: Names what differs.
    """
    before, now = run_config(TrainConfig(work=config.work)) | state["config"], run_config(config)
    differing = [
        f"--{name.replace('_', '-')} was {before[name]}, is {value}"
        for name, value in now.items()
        if before[name] != value
    ]
    files = _digests(data, config)
    differing += [f"{name} has changed" for name in files if files[name] != state["made_from"].get(name)]
    if differing:
        raise TrainingError(
            f"run {config.run_name}/fold_{config.fold} began otherwise ({'; '.join(differing)}): "
            "take the same options, or another --run-name"
        )


def save_checkpoint(folder: Path, state: State) -> None:
    """Write `state`: tensors and plain Python values only, so that it loads without unpickling code."""
    with atomic_path(folder / CHECKPOINT) as temporary:
        torch.save(state, temporary)
        if (folder / CHECKPOINT).exists():
            (folder / CHECKPOINT).replace(folder / PREVIOUS)


def load_checkpoint(folder: Path) -> State | None:
    """Read the newest checkpoint that can be read; None where there is none.

    Raises:
        TrainingError: If there are checkpoints and none can be read.
    """
    found = [folder / name for name in (CHECKPOINT, PREVIOUS) if (folder / name).exists()]
    for path in found:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # torch raises anything from EOFError to UnpicklingError for a damaged file
            continue
        if isinstance(state, dict):
            return state
    if found:
        raise TrainingError(
            f"no checkpoint in {folder.parent.name}/{folder.name} can be read: start over with another --run-name"
        )
    return None


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a run's folder: two processes in it would write over each other's checkpoints.

    Raises:
        TrainingError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = f"{folder.parent.name}/{folder.name}"
            raise TrainingError(f"run {name} is being trained by another process") from None
        yield


def _digests(data: TrainingSet, config: TrainConfig) -> dict[str, str]:
    """Digests of what a run is made from, by the file that a person would look into."""
    plan = [data.name, data.configuration.model_dump(mode="json"), data.plan.preprocessing(data.name).model_dump()]
    dataset = [data.manifest.channels, [label.model_dump() for label in data.manifest.labels]]
    dataset += [[region.model_dump() for region in data.manifest.regions]] if data.manifest.regions else []
    parts = {"plan.yaml": plan, "manifest.json": dataset, "folds.json": [data.training, data.validation]}
    extensions = {f"extension {extension_name(one)}": extension_digest(one)[:16] for one in config.extension}
    return extensions | {
        name: hashlib.sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()[:16]
        for name, part in parts.items()
    }
