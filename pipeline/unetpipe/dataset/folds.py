"""Which cases train and which validate: `folds.json`."""

from collections import defaultdict
from pathlib import Path
from typing import Final, Literal

import numpy as np

from unetpipe.dataset.manifest import Manifest
from unetpipe.documents import Record, read_document, write_document
from unetpipe.errors import DatasetError, Fault, TrainingError

FOLDS_SCHEMA: Final = 1


class Fold(Record):
    """Case ids of one split."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


class Folds(Record):
    """All splits.

    Attributes:
        by_patient: Whether patients were known, and so kept together.
    """

    schema_version: Literal[1] = FOLDS_SCHEMA
    seed: int
    by_patient: bool
    folds: tuple[Fold, ...]


def make_folds(manifest: Manifest, k: int, seed: int) -> Folds:
    """Split into `k` folds; the cases of one patient stay together.

    Without patients the folds are nnU-Net's: scikit-learn's ``KFold(k, shuffle=True, random_state=seed)`` over the
    sorted ids. With patients the same split is made over patients (a case without one counts as its own).

    Raises:
        DatasetError: If there are fewer patients than folds.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for case in manifest.cases:
        groups[case.id if case.patient is None else f"patient {case.patient}"].append(case.id)
    names = sorted(groups)
    if len(names) < k:
        what = "patients" if any(case.patient for case in manifest.cases) else "cases"
        message = f"{k} folds need at least {k} {what}, the dataset has {len(names)}"
        raise DatasetError([Fault(case="dataset", kind="too_few_cases", message=message)])
    # the legacy generator is scikit-learn's, whose folds these are
    order = np.random.RandomState(seed).permutation(len(names))
    folds = []
    for held_out in np.array_split(order, k):
        validating = {case for group in held_out for case in groups[names[group]]}
        folds.append(
            Fold(
                train=tuple(case.id for case in manifest.cases if case.id not in validating),
                validation=tuple(case.id for case in manifest.cases if case.id in validating),
            )
        )
    return Folds(seed=seed, by_patient=any(case.patient for case in manifest.cases), folds=tuple(folds))


def choose_folds(text: str, count: int) -> tuple[int, ...]:
    """Read which folds are meant.

    Args:
        text: ``all``, or numbers such as ``0,2``.
        count: Folds that there are.

    Raises:
        TrainingError: If a fold is not a number, or not there.
    """
    try:
        numbers = range(count) if text == "all" else [int(number) for number in text.split(",")]
    except ValueError:
        raise TrainingError(f"--folds takes `all` or numbers such as 0,2, got {text!r}") from None
    absent = sorted(set(numbers) - set(range(count)))
    if absent:
        raise TrainingError(f"there is no fold {', '.join(map(str, absent))}: the work folder has 0 to {count - 1}")
    return tuple(dict.fromkeys(numbers))


def read_folds(work: Path) -> Folds:
    """Read WORK/folds.json.

    Raises:
        PlanError: If it is missing or malformed.
    """
    return read_document(work / "folds.json", Folds)


def write_folds(work: Path, folds: Folds) -> None:
    """Write WORK/folds.json."""
    write_document(work / "folds.json", folds)
