"""Where the runs of a work folder and their folds lie: `runs/RUN/fold_K`."""

import re
from pathlib import Path

VALIDATION = "validation"
"""Folder of a fold that holds the labels predicted for the cases that it held out."""

_RUNS = "runs"
_FOLD = re.compile(r"fold_(0|[1-9][0-9]*)")


def run_folder(work: Path, name: str) -> Path:
    """The folder of a run, which holds its folds."""
    return work / _RUNS / name


def run_folders(work: Path) -> list[Path]:
    """The folders of all runs of a work folder that have a fold, by name."""
    return sorted(folder for folder in (work / _RUNS).glob("*") if fold_folders(folder))


def fold_folder(run: Path, fold: int) -> Path:
    """The folder of a run's fold.

    Args:
        run: Folder of the run.
        fold: Number of the fold, from 0.
    """
    return run / f"fold_{fold}"


def fold_folders(run: Path) -> dict[int, Path]:
    """The folders of a run's folds that exist, by number, in the order of the numbers.

    What is called otherwise, such as a copy ``fold_0_backup``, is no fold.
    """
    named = ((_FOLD.fullmatch(path.name), path) for path in run.glob("fold_*") if path.is_dir())
    found = {int(match[1]): path for match, path in named if match}
    return dict(sorted(found.items()))
