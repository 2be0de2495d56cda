"""The split of the cases into training and validation, once per fold: `folds.json`."""

from collections import defaultdict
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from pydantic import model_validator

from unetpipe.dataset.case_names import former_ids
from unetpipe.dataset.manifest import Manifest
from unetpipe.documents import Record, read_document
from unetpipe.errors import DatasetError, TrainingError, counted

FOLDS_SCHEMA: Final = 1
FOLDS: Final = 5
"""Number of folds unless another one is asked for, nnU-Net's."""


class Fold(Record):
    """Ids of the cases that one fold trains on, and of those that it holds out."""

    train: tuple[str, ...]
    validation: tuple[str, ...]

    @model_validator(mode="after")
    def _learns_from_nothing_held_out(self) -> Self:
        if both := sorted(set(self.train) & set(self.validation)):
            raise ValueError(f"a fold trains on {len(both)} of the cases that it holds out, such as {both[0]}")
        return self

    def split_patient(self, manifest: Manifest) -> tuple[str, str] | None:
        """Two cases of one patient, of which it trains on the first and holds out the second; None without such."""
        patients = {case.id: case.patient for case in manifest.cases if case.patient is not None}
        trained = {patients[case]: case for case in self.train if case in patients}
        split = ((trained[patients[case]], case) for case in self.validation if patients.get(case) in trained)
        return next(split, None)


class Folds(Record):
    """The folds of a cross-validation.

    Attributes:
        seed: Seed of the random split.
        by_patient: Whether patients are known and no fold trains on a patient whom it holds out.
        folds: Folds in the order of their numbers.
    """

    schema_version: Literal[1] = FOLDS_SCHEMA
    seed: int
    by_patient: bool
    folds: tuple[Fold, ...]


def make_folds(manifest: Manifest, k: int, seed: int) -> Folds:
    """Split the cases as the dataset declares, or else into `k` random folds that keep each patient's cases together.

    Declared folds are taken as they are, in the order of their numbers. A case that declares none, where others do, is
    held out by no fold.

    Without patients the random folds are nnU-Net's: scikit-learn's ``KFold(k, shuffle=True, random_state=seed)`` over
    the sorted ids. With patients the same split is made over patients (a case without one counts as its own).

    Raises:
        DatasetError: If there are fewer patients than folds, or a declared fold leaves nothing to train on.
    """
    if _declared(manifest):
        return _declared_folds(manifest, seed)
    groups: dict[str, list[str]] = defaultdict(list)
    for case in manifest.cases:
        groups[case.id if case.patient is None else f"patient {case.patient}"].append(case.id)
    names = sorted(groups)
    if len(names) < k:
        what = "patients" if _knows_patients(manifest) else "cases"
        message = f"{k} folds need at least {k} {what}, the dataset has {len(names)}"
        raise DatasetError.of("too_few_cases", message)
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
    return Folds(seed=seed, by_patient=_knows_patients(manifest), folds=tuple(folds))


def _declared_folds(manifest: Manifest, seed: int) -> Folds:
    folds = tuple(
        Fold(
            train=tuple(case.id for case in manifest.cases if case.fold != number),
            validation=tuple(case.id for case in manifest.cases if case.fold == number),
        )
        for number in sorted({case.fold for case in manifest.cases if case.fold is not None})
    )
    if not all(fold.train for fold in folds):
        message = "all cases are declared to be in one fold, which leaves none to train on"
        raise DatasetError.of("too_few_cases", message)
    known = [case for case in manifest.cases if case.patient is not None]
    together = len({(case.patient, case.fold) for case in known}) == len({case.patient for case in known})
    return Folds(seed=seed, by_patient=bool(known) and together, folds=folds)


def with_present_ids(found: Folds, manifest: Manifest) -> Folds:
    """Folds of a work folder, with the ids that cases have now where earlier versions had changed them."""
    renamed = former_ids(case.id for case in manifest.cases)

    def ids(cases: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(renamed.get(case, case) for case in cases)

    folds = tuple(Fold(train=ids(fold.train), validation=ids(fold.validation)) for fold in found.folds)
    return found.model_copy(update={"folds": folds})


def why_not_kept(found: Folds, manifest: Manifest, seed: int, count: int | None = None) -> str | None:
    """Why the folds of a work folder hold no longer, in words; None where they do, as a person may have changed them.

    They hold where the dataset declares none, where each of its cases and no other one is in them, and where they keep
    patients together.

    Args:
        found: Folds of the work folder, with present ids.
        manifest: Current manifest of the dataset.
        seed: Seed that is asked for.
        count: Number of folds that is asked for, if one is.
    """
    if _declared(manifest):
        return "the dataset declares others"  # declared folds are changed where they are declared
    if count not in (None, len(found.folds)):
        return f"it had {counted(len(found.folds), 'fold')} and {count} {'is' if count == 1 else 'are'} asked for"
    if found.seed != seed:
        return f"its seed was {found.seed} and is {seed}"
    if {case for fold in found.folds for case in (*fold.train, *fold.validation)} != {one.id for one in manifest.cases}:
        return "its cases are not those of the dataset"
    if found.by_patient != _knows_patients(manifest):
        return "what is known of patients has changed"
    if any(fold.split_patient(manifest) for fold in found.folds):
        return "a fold in it trains on a patient whom it holds out"
    return None


def _knows_patients(manifest: Manifest) -> bool:
    return any(case.patient for case in manifest.cases)


def _declared(manifest: Manifest) -> bool:
    return any(case.fold is not None for case in manifest.cases)


def choose_folds(text: str, count: int) -> tuple[int, ...]:
    """Parse a choice of folds.

    Args:
        text: ``all``, or numbers such as ``0,2``.
        count: Number of folds in the work folder.

    Returns:
        The numbers in the order given, each once.

    Raises:
        TrainingError: If the text is neither, or there is no fold of a number.
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
