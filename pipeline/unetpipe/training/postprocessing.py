"""Which classes are better with only their largest component, decided on cases that trained nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.inference.components import keep_largest


class LargestComponentChoice:
    """Collects held-out cases one by one, and says where removing all but the largest component raised Dice.

    A class is chosen if its mean Dice rose, and did so in more cases than it fell in: one lucky case does not decide.
    Cases without the class in the reference do not count, as in the mean Dice that is reported.

    Args:
        classes: L, background included.

    Source:
        Isensee et al. 2021, Nat. Methods 18:203, whose rule asks for the mean alone.
    """

    def __init__(self, classes: int) -> None:
        """No case yet."""
        self._gains: list[list[float]] = [[] for _ in range(classes)]

    def add(self, labels: NDArray[Any], reference: NDArray[Any]) -> None:
        """Compare one case with and without.

        Args:
            labels: Class indices as predicted, (*spatial); left as they are.
            reference: Class indices of the same shape; -1 for what is to be ignored.
        """
        counted = reference >= 0
        for label in range(1, len(self._gains)):
            truth = reference == label
            found = (labels == label) & counted
            if not truth.any() or not found.any():
                continue
            kept = (labels == label).astype(np.uint8)
            keep_largest(kept, 1)
            self._gains[label].append(_dice((kept == 1) & counted, truth) - _dice(found, truth))

    def chosen(self) -> list[int]:
        """Class indices, ascending."""
        return [label for label, gains in enumerate(self._gains) if sum(gains) > 0 and sum(np.sign(gains)) > 0]


def _dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return 2 * int((found & truth).sum()) / int(found.sum() + truth.sum())
