"""What a resume needs, in one file that is whole or not there; the one before is kept in case it is damaged."""

from pathlib import Path
from typing import Any

import torch

from unetpipe.errors import TrainingError
from unetpipe.files import atomic_path

CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"

State = dict[str, Any]


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
