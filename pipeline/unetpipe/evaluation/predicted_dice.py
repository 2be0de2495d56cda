"""The Dice that `infer` predicted for its labels (`inference.quality`), against the Dice that was measured."""

import logging
from collections.abc import Mapping, Sequence
from math import isnan, nan

import numpy as np
from numpy.typing import NDArray

from unetpipe.documents import Record
from unetpipe.evaluation.summary import by_value
from unetpipe.inference.quality import PredictedDice
from unetpipe.metrics.scores import ClassScore

log = logging.getLogger(__name__)

FAILED_BELOW = 0.8
PredictedOfCases = Mapping[str, Mapping[str, PredictedDice]]
"""By case id, the predicted Dice of each class by name."""


class PredictionCheck(Record):
    """Predicted against measured Dice of one class.

    Attributes:
        model: Name of the model.
        name: Name of the class.
        cases: Number of cases with a predicted and a measured Dice.
        mean_error: Mean of predicted minus measured Dice.
        mean_absolute_error: Mean of its absolute value.
        covered: Share of cases whose Dice lies in the predicted interval, which is made for 0.9.
        failed: Number of cases whose Dice is below 0.8.
        auroc: Probability that a failed case has a lower predicted Dice than one that did not fail; NaN where there
            are not both.
    """

    model: str
    name: str
    cases: int
    mean_error: float
    mean_absolute_error: float
    covered: float
    failed: int
    auroc: float


def check_predictions(
    scores: Mapping[str, Sequence[ClassScore]], names: Mapping[int, str], predicted: Mapping[str, PredictedOfCases]
) -> list[PredictionCheck]:
    """Hold predicted Dice against measured ones, for every model and class that has any.

    A model none of whose classes are called as the evaluated ones, as where references are a folder that names none, is
    logged.

    Args:
        scores: Scores of every class of every case, by model.
        names: Name of each class by label value.
        predicted: Predictions by model.
    """
    for model, cases in predicted.items():
        theirs = dict.fromkeys(name for case in cases.values() for name in case)
        if theirs and theirs.keys().isdisjoint(names.values()):
            message = "%s: predicted Dice of %s is not compared, as no class is called so: name classes by --labels"
            log.warning(message, model, ", ".join(theirs))
    found = (
        _check(model, name, of_class[value], predicted.get(model, {}))
        for model, of_class in ((model, by_value(items)) for model, items in scores.items())
        for value, name in names.items()
    )
    return [one for one in found if one is not None]


def _check(model: str, name: str, scores: Sequence[ClassScore], predicted: PredictedOfCases) -> PredictionCheck | None:
    pairs = [
        (predicted[score.case][name], score.overlap.dice)
        for score in scores
        if name in predicted.get(score.case, {}) and not isnan(score.overlap.dice)
    ]
    if not pairs:
        return None
    expected, measured = np.array([one.dice for one, _ in pairs]), np.array([dice for _, dice in pairs])
    failed = measured < FAILED_BELOW
    return PredictionCheck(
        model=model,
        name=name,
        cases=len(pairs),
        mean_error=float((expected - measured).mean()),
        mean_absolute_error=float(np.abs(expected - measured).mean()),
        covered=sum(one.low <= dice <= one.high for one, dice in pairs) / len(pairs),
        failed=int(failed.sum()),
        auroc=_auroc(expected[failed], expected[~failed]),
    )


def _auroc(lower: NDArray[np.float64], higher: NDArray[np.float64]) -> float:
    """Share of pairs in the right order; ties count half."""
    if not lower.size or not higher.size:
        return nan
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.sum()) / (2 * lower.size * higher.size)
