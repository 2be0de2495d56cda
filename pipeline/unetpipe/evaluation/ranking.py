"""Several models in the order of their mean Dice, and which of them are behind the best beyond chance.

A model's mean Dice is the mean over classes of each class's mean over patients, as nnU-Net has it. Intervals are of the
same resampled patients for all models, so that what makes a patient easy or hard for all of them does not count.
"""

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from unetpipe.documents import Record
from unetpipe.evaluation.summary import bootstrap_means, patients_of, pool
from unetpipe.metrics.scores import ClassScore

_INTERVAL = (2.5, 97.5)


class RankedModel(Record):
    """One of several models.

    Attributes:
        name: Name of the model.
        dice: Mean Dice over classes; NaN if no class has one.
        low, high: Its 95 % bootstrap interval, by resampling patients; NaN below two patients
            that have a class.
        behind: Mean Dice of the best model less this one's; 0 for the best.
        behind_low, behind_high: 95 % interval of this difference, in the same patients, classes of a single one left
            out.
        tied: Whether the interval holds 0, so that chance explains the difference.
    """

    name: str
    dice: float
    low: float
    high: float
    behind: float
    behind_low: float
    behind_high: float
    tied: bool


def rank_scores(
    scores: Mapping[str, Sequence[ClassScore]], names: Mapping[int, str], patients: Mapping[str, str], seed: int
) -> list[RankedModel]:
    """Order models by their mean Dice, as `rank_models` does.

    Args:
        scores: Scores of every class of every case, by model; the same cases for each.
        names: Name of each class by label value.
        patients: Patient by case id; a case that is not in it is a patient of its own.
        seed: Seed of the bootstrap.
    """
    cases = list(dict.fromkeys(score.case for score in next(iter(scores.values()))))
    tables = {model: _table(own, cases, list(names)) for model, own in scores.items()}
    return rank_models(tables, patients_of(cases, patients), seed)


def rank_models(dice: Mapping[str, NDArray[np.float64]], patients: Sequence[str], seed: int) -> list[RankedModel]:
    """Order models by their mean Dice, the best first; of equal ones, the first given comes first.

    Args:
        dice: Dice of each case and class by model, shape (cases, classes); NaN where it is not defined.
        patients: Patient of each case.
        seed: Seed of the bootstrap.
    """
    pooled = pool(np.concatenate(list(dice.values()), axis=1), patients)
    shape = (len(dice), pooled.shape[1] // len(dice))
    means = _mean_of_known(_mean_of_known(pooled.T).reshape(shape))
    order = sorted(range(len(means)), key=lambda model: (np.isnan(means[model]), -means[model]))
    drawn = bootstrap_means(pooled, seed) if len(pooled) > 1 else np.full((1, pooled.shape[1]), nan)
    drawn, pooled = drawn.reshape(len(drawn), *shape), pooled.reshape(len(pooled), *shape)
    several = (np.isfinite(pooled).sum(0) > 1).any(0)  # classes of more than one patient: one decides nothing
    resampled = _means_of_all(drawn, pooled) if several.any() else np.full(drawn.shape[:2], nan)
    compared = _means_of_all(drawn[..., several], pooled[..., several])
    best, names = order[0], list(dice)
    return [_ranked(names[model], means, resampled, compared, model, best) for model in order]


def _ranked(
    name: str,
    means: NDArray[np.float64],
    resampled: NDArray[np.float64],
    compared: NDArray[np.float64],
    model: int,
    best: int,
) -> RankedModel:
    low, high = _interval(resampled[:, model])
    behind_low, behind_high = _interval(compared[:, best] - compared[:, model])
    return RankedModel(
        name=name,
        dice=float(means[model]),
        low=low,
        high=high,
        behind=float(means[best] - means[model]),
        behind_low=behind_low,
        behind_high=behind_high,
        tied=model == best or not behind_low > 0,
    )


def _means_of_all(drawn: NDArray[np.float64], pooled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the classes of each draw and model.

    A class that no patient of a draw has counts by its overall mean: without it the mean would be another quantity.

    Args:
        drawn: Means of each class, shape (draws, models, classes).
        pooled: Values of each patient, shape (patients, models, classes).
    """
    overall = _mean_of_known(np.moveaxis(pooled, 0, -1))
    return _mean_of_known(np.where(np.isfinite(drawn), drawn, overall))


def _table(scores: Sequence[ClassScore], cases: Sequence[str], values: Sequence[int]) -> NDArray[np.float64]:
    """Dice of each case (rows) and class (columns)."""
    found = {(score.case, score.value): score.overlap.dice for score in scores}
    return np.array([[found.get((case, value), nan) for value in values] for case in cases], dtype=float)


def _mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis, leaving out NaN; NaN where all are."""
    known = np.isfinite(values)
    count = known.sum(-1)
    total: NDArray[np.float64] = np.where(known, values, 0.0).sum(-1)
    means: NDArray[np.float64] = np.divide(total, count, out=np.full(count.shape, nan), where=count > 0)
    return means


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    if not np.isfinite(values).any():
        return nan, nan
    low, high = np.nanpercentile(values, _INTERVAL)
    return float(low), float(high)
