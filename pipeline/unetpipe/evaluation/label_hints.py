"""Values that mean one thing in predictions and another in references: the same mask as 0/255 and 0/1 has Dice 0."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unetpipe.evaluation.inputs import Inputs

_COVERED = 0.5
"""Foreground Dice from which a prediction covers its reference, and Dice of equal values below which values differ."""
_LISTED = 8


@dataclass(frozen=True)
class CaseValues:
    """Label values of one case, 0 and the ignored value left out.

    Attributes:
        reference: Values in the reference.
        predictions: Values in the prediction of each model that has one, by its name.
        met: Values that other ones of the reference lie under, by model: see `find_met`.
    """

    reference: Set[int]
    predictions: Mapping[str, Set[int]]
    met: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


def find_met(reference: NDArray[np.integer], prediction: NDArray[np.integer]) -> dict[int, int]:
    """Look for values that number the same structures otherwise: foregrounds cover each other, equal values do not.

    Args:
        reference: Label values, 0 for background.
        prediction: Label values of the same shape.

    Returns:
        The value of the reference that each value of the prediction mostly lies on, where that is a class and not the
        same, and the two cover each other; empty where the foregrounds do not, or equal values do. A poor network puts
        many values into a large structure, and has numbered nothing otherwise.
    """
    ours, theirs = reference != 0, prediction != 0
    least = _COVERED * (int(np.count_nonzero(ours)) + int(np.count_nonzero(theirs)))
    same = 2 * int(np.count_nonzero(ours & (reference == prediction)))
    if 2 * int(np.count_nonzero(ours & theirs)) < least or same >= least:
        return {}
    values, row = np.unique(prediction[theirs], return_inverse=True)
    below, column = np.unique(reference[theirs], return_inverse=True)
    pairs, counts = np.unique(row.astype(np.int64) * len(below) + column, return_counts=True)
    rows, columns = np.divmod(pairs, len(below))
    order = np.lexsort((columns, -counts, rows))  # for each value what it lies on most, of equal ones the lowest, first
    first = order[np.unique(rows[order], return_index=True)[1]]
    there, sizes = np.unique(reference, return_counts=True)
    of_both = np.bincount(row)[rows[first]] + sizes[np.searchsorted(there, below[columns[first]])]
    covering = first[2 * counts[first] >= _COVERED * of_both]
    met = {int(values[rows[n]]): int(below[columns[n]]) for n in covering}
    return {value: other for value, other in met.items() if other not in (0, value)}


def label_hints(found: Iterable[CaseValues], inputs: Inputs) -> list[str]:
    """Name values of predictions that are no class of the references, or lie on another one, and what they may be.

    Args:
        found: Label values of every case.
        inputs: Files of the evaluation, which may name the classes.
    """
    cases = list(found)
    in_references = set().union(*(case.reference for case in cases))
    in_regions = {value for region in inputs.regions for value in region.values}
    known = set(inputs.classes) | in_regions or in_references
    hints: list[str] = []
    for model in inputs.models:
        predictions = [case.predictions[model.name] for case in cases if model.name in case.predictions]
        predicted = set().union(*predictions)
        unknown, lacking = predicted - known, (in_references & known) - predicted
        met = [case.met.get(model.name, {}) for case in cases if model.name in case.predictions]
        if not inputs.regions:  # of which predictions hold what is written for them
            hints += _met_hints(model.name, met, known, predicted)
        if not unknown or (inputs.chosen and not lacking):  # who names some classes leaves others out on purpose
            continue
        times = sum(bool(values & unknown) for values in predictions)
        text = f"{times} of {len(predictions)} predictions of {model.name} hold {_listed(unknown)}, which "
        if inputs.classes:
            text += f"is no class; classes are {_listed(known, inputs.classes)}"
        else:
            text += f"no reference holds; references hold {_listed(known)}"
        if len(unknown) == 1 and len(lacking) == 1:
            (theirs,), (ours,) = unknown, lacking
            name = inputs.classes.get(ours, "NAME")
            text += f"; if {theirs} stands for {ours} there, --labels {name}={ours},{theirs} counts both as one class"
        elif lacking:
            text += "; --labels NAME=VALUES counts several values as one class"
        hints.append(text)
    return hints


def _met_hints(model: str, met: Sequence[Mapping[int, int]], known: Set[int], predicted: Set[int]) -> Iterator[str]:
    """Known values of a model's predictions that lie where references hold another one, the most common first."""
    pairs = Counter(pair for case in met for pair in case.items() if pair[0] in known)
    for (theirs, ours), times in pairs.most_common(_LISTED):
        text = f"in {times} of {len(met)} cases value {theirs} of {model} lies where references hold {ours}"
        if ours not in predicted:
            text += f"; if both are one class, --labels NAME={theirs},{ours} says so"
        yield text


def _listed(values: Set[int], names: Mapping[int, str] | None = None) -> str:
    shown = [f"{value} {(names or {}).get(value, '')}".strip() for value in sorted(values)[:_LISTED]]
    return ", ".join(shown) + (", ..." if len(values) > len(shown) else "")
