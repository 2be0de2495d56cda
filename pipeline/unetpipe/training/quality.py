"""Learns from held-out cases what a network's confidence is worth (`inference.quality`)."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unetpipe.inference.confidence import LEAST_PROBABILITY
from unetpipe.inference.quality import ClassQuality, Quality, logit, sigmoid
from unetpipe.metrics.overlap import Overlap

LEAST_CASES = 8
"""Held-out cases that a class needs."""
_COVERED = 0.9
_RIDGE = 1.0
"""Weight of the belief that the slope is 1: as much as that of cases with a variance of 1 together."""


def fit_quality(
    names: Sequence[str], overlaps: Sequence[Sequence[Overlap]], expected: Sequence[Mapping[str, float | None]]
) -> Quality | None:
    """Fit each class to the held-out cases where its labels were found.

    Args:
        names: Name of each class or region, in the order of overlaps.
        overlaps: Of each case, the overlap of each class with the reference.
        expected: Of each case, the expected Dice of each class, which counts probabilities from `LEAST_PROBABILITY` on;
            None where it was not found.

    Returns:
        None where no class has enough cases.
    """
    classes = []
    for position, name in enumerate(names):
        own = [case[position] for case in overlaps]
        pairs = [
            (logit(share), overlap.dice)
            for overlap, case in zip(own, expected, strict=True)
            if (share := case.get(name)) is not None and not math.isnan(overlap.dice)
        ]
        if len(pairs) >= LEAST_CASES:
            presence = sum(overlap.reference > 0 for overlap in own) / len(own)
            classes.append(_fit(name, np.array(pairs), presence))
    return Quality(classes=tuple(classes), least=LEAST_PROBABILITY) if classes else None


def _fit(name: str, pairs: NDArray[np.float64], presence: float) -> ClassQuality:
    """Fit one class; the interval is of errors for cases that the line was not fitted to."""
    intercept, slope = _line(pairs)
    errors = []
    for left_out in range(len(pairs)):
        at, rise = _line(np.delete(pairs, left_out, axis=0))
        errors.append(pairs[left_out, 1] - sigmoid(at + rise * pairs[left_out, 0]))
    below, above = _width(-np.array(errors)), _width(np.array(errors))
    return ClassQuality(
        name=name,
        intercept=round(intercept, 6),
        slope=round(slope, 6),
        below=round(below, 6),
        above=round(above, 6),
        cases=len(pairs),
        presence=presence,
    )


def _line(pairs: NDArray[np.float64]) -> tuple[float, float]:
    """Intercept and slope of logit Dice over logit expectation: ridge towards a slope of 1, and never falling."""
    x, y = pairs[:, 0], np.array([logit(dice) for dice in pairs[:, 1]])
    dx, dy = x - x.mean(), y - y.mean()
    slope = max(0.0, float((dx @ dy + _RIDGE) / (dx @ dx + _RIDGE)))
    return float(y.mean() - slope * x.mean()), slope


def _width(errors: NDArray[np.float64]) -> float:
    """The error that 95 % of cases stay below, by the rank that holds for a case to come (split conformal)."""
    rank = math.ceil((len(errors) + 1) * (1 + _COVERED) / 2)
    return max(0.0, float(np.sort(errors)[min(rank, len(errors)) - 1]))
