"""Which classes are better with only their largest component, decided on cases that trained nothing."""

import numpy as np
from numpy.typing import NDArray

from unetpipe.inference.components import keep_largest
from unetpipe.metrics.overlap import Overlap


def largest_component_gain(
    labels: NDArray[np.integer], reference: NDArray[np.integer], classes: int
) -> NDArray[np.float64]:
    """Compute how much the Dice of each class rises in one case when all but its largest component is removed.

    Args:
        labels: Class indices as predicted, (*spatial); left as they are.
        reference: Class indices of the same shape; -1 for what is to be ignored.
        classes: Number of classes, L, background included.

    Returns:
        Shape (L,); NaN for the background, and for a class that prediction or reference lacks, as such a case does not
        count in the mean Dice that is reported either.
    """
    gains = np.full(classes, np.nan)
    counted = reference >= 0
    for label in range(1, classes):
        truth = reference == label
        found = (labels == label) & counted
        if truth.any() and found.any():
            kept = (labels == label).astype(np.uint8)
            keep_largest(kept, 1)
            gains[label] = Overlap.of(truth, (kept == 1) & counted).dice - Overlap.of(truth, found).dice
    return gains


def classes_to_reduce(gains: NDArray[np.float64]) -> list[int]:
    """Class indices for which removing all but the largest component is better, ascending.

    A class is chosen if its mean Dice rises, and does so in more cases than it falls in: one lucky case does not
    decide.

    Args:
        gains: Results of `largest_component_gain`, a row for each case.

    Source:
        Isensee et al. 2021, Nat. Methods 18:203, whose rule asks for the mean alone.
    """
    known = np.nan_to_num(gains)
    return [int(label) for label in np.flatnonzero((known.sum(0) > 0) & (np.sign(known).sum(0) > 0))]
