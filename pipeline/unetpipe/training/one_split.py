"""Folds of a run are of one split: each holds out other cases, so that their mean is judged by all of them."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from unetpipe.dataset.folds import Fold
from unetpipe.dataset.run_folders import fold_folders
from unetpipe.errors import TrainingError
from unetpipe.training.checkpoint import load_checkpoint


def folds_of_another_split(run: Path, folds: Sequence[Fold]) -> list[int]:
    """Numbers of a run's folds that learned from other cases, or held out others, than `folds.json` says now.

    Folds whose checkpoint is not there, or cannot be read, are taken to be of the same split.

    Args:
        run: Folder of the run.
        folds: All folds of the work folder.
    """
    found = []
    for number, folder in fold_folders(run).items():
        state = None
        with suppress(TrainingError):
            state = load_checkpoint(folder)
        if state is not None and not (number < len(folds) and state.identity.is_of_split(folds[number])):
            found.append(number)
    return found
