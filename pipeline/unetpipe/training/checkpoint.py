"""The checkpoint that a resume needs: one file, written atomically; the one before is kept in case it is damaged."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from unetpipe.errors import TrainingError
from unetpipe.files import atomic_path
from unetpipe.networks.tensor_file import save_tensors
from unetpipe.training.budget_choice import BudgetChoice
from unetpipe.training.epoch import Epoch
from unetpipe.training.outcome import TrainingOutcome
from unetpipe.training.run_identity import RunIdentity
from unetpipe.training.schedule import Budget, Cooldown
from unetpipe.training.state import EpochRecord, RunState

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
BEST = "best.pt"
_SCHEMA_VERSION = 3


def save_checkpoint(folder: Path, state: RunState) -> None:
    """Write a run's state: tensors and plain Python values only, so that it loads without unpickling code."""
    content = {name: value for name, value in vars(state).items() if name not in ("identity", "outcome")}
    content |= {
        "schema_version": _SCHEMA_VERSION,
        "options": dict(state.identity.options),
        "digests": dict(state.identity.digests),
        "budget": asdict(state.budget),
        "choice": state.choice.model_dump(mode="json") if state.choice else None,
        "history": [asdict(record) for record in state.history],
        "cut_epoch": asdict(state.cut_epoch) if state.cut_epoch else None,
        "cooldown": asdict(state.cooldown) if state.cooldown else None,
        "outcome": state.outcome.model_dump(mode="json") if state.outcome else None,
    }
    with atomic_path(folder / CHECKPOINT, previous=folder / PREVIOUS) as temporary:
        save_tensors(content, temporary)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run's folder has a checkpoint."""
    return any((folder / file).exists() for file in (CHECKPOINT, PREVIOUS))


def load_checkpoint(folder: Path) -> RunState | None:
    """Read the newest checkpoint that can be read; None where there is none.

    Raises:
        TrainingError: If there are checkpoints and none can be read, or a later version of unetpipe wrote it.
    """
    name = f"{folder.parent.name}/{folder.name}"
    found = [folder / file for file in (CHECKPOINT, PREVIOUS) if (folder / file).exists()]
    for path in found:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # torch raises anything from EOFError to UnpicklingError for a damaged file
            continue
        if isinstance(content, dict):
            return _state_from(content, folder, name)
    if found:
        raise TrainingError(f"no checkpoint in {name} can be read: start over with another --run-name")
    return None


def _state_from(content: dict[str, Any], folder: Path, name: str) -> RunState:
    version = content.pop("schema_version", 1)
    if version > _SCHEMA_VERSION:
        raise TrainingError(f"the checkpoint in {name} was written by a later version of unetpipe")
    if version == 1:
        content = _from_version_1(content, folder)
    cut, cooldown, outcome = content["cut_epoch"], content["cooldown"], content["outcome"]
    typed = {
        "identity": RunIdentity(options=content.pop("options"), digests=content.pop("digests")),
        "budget": Budget(**content["budget"]),
        "choice": BudgetChoice.model_validate(content["choice"]) if content.get("choice") else None,
        "history": [EpochRecord(**{**row, "dice": tuple(row["dice"])}) for row in content["history"]],
        "cut_epoch": Epoch(**cut) if cut else None,
        "cooldown": Cooldown(**cooldown) if cooldown else None,
        "outcome": TrainingOutcome.model_validate(outcome) if outcome else None,
    }
    return RunState(**{**content, **typed})


def _from_version_1(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Give today's names to what checkpoints without a version hold; best weights were in a file of their own."""
    cut, result = content["part"], content["result"]
    best = content["config"]["deploy"] == "best" and (folder / BEST).exists()
    return {
        "options": content["config"],
        "digests": content["made_from"],
        "cut_epoch": {key: value for key, value in cut.items() if key != "over"} if cut else None,
        "cooldown": content["cooldown"] if "cooldown" in content else content["landing"],
        "best": torch.load(folder / BEST, map_location="cpu", weights_only=True) if best else None,
        "outcome": {key: value for key, value in result.items() if key not in _OF_THE_STAGE} if result else None,
        **{key: content[key] for key in _UNCHANGED},
    }


_OF_THE_STAGE = ("fold", "tracking_run")  # part of version 1's result, and known without it
_UNCHANGED = ("definition", "budget", "iteration", "seconds", "history", "tracking_run", "learner")
