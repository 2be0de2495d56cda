"""Counting voxels: Dice, IoU, sensitivity, precision and volumes, all classes from one joint histogram.

With TP, FP, FN the voxels of a class that both hold, only the prediction holds, and only the reference holds:
Dice = 2 TP / (2 TP + FP + FN), IoU = TP / (TP + FP + FN), sensitivity = TP / (TP + FN), precision = TP / (TP + FP).
"""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_CHUNK_VOXELS = 1 << 20
"""Voxels counted at a time: bounds the temporary arrays at a few megabytes."""


class Overlap(NamedTuple):
    """Voxel counts of one class, or of a structure that consists of several.

    Attributes:
        both: Voxels that reference and prediction hold (TP).
        reference: Voxels of the reference (TP + FN).
        prediction: Voxels of the prediction (TP + FP).
    """

    both: int
    reference: int
    prediction: int

    @classmethod
    def of(cls, reference: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> "Overlap":
        """Count the voxels of two masks of one shape."""
        both, ours, theirs = (int(np.count_nonzero(mask)) for mask in (reference & prediction, reference, prediction))
        return cls(both=both, reference=ours, prediction=theirs)

    @property
    def dice(self) -> float:
        """NaN when both are empty, 0 when one is."""
        return _ratio(2 * self.both, self.reference + self.prediction)

    @property
    def known_dice(self) -> float | None:
        """None when both are empty, else Dice."""
        return None if math.isnan(self.dice) else self.dice

    @property
    def iou(self) -> float:
        """NaN when both are empty, 0 when one is."""
        return _ratio(self.both, self.reference + self.prediction - self.both)

    @property
    def sensitivity(self) -> float:
        """NaN when the reference is empty."""
        return _ratio(self.both, self.reference)

    @property
    def precision(self) -> float:
        """NaN when the prediction is empty."""
        return _ratio(self.both, self.prediction)


def joint_histogram(reference: NDArray[np.integer], prediction: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count how often each pair of classes meets in a voxel.

    Args:
        reference: Class indices below `classes`, any shape; voxels where it is negative are not counted.
        prediction: Class indices in [0, classes), of the same shape.
        classes: Number of classes, background included.

    Returns:
        Counts, shape (classes, classes); [r, p] is reference class r under predicted class p.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"shapes differ: reference {reference.shape}, prediction {prediction.shape}")
    ours, theirs = reference.ravel(), prediction.ravel()
    counts = np.zeros(classes * classes, np.int64)
    for start in range(0, ours.size, _CHUNK_VOXELS):
        chunk = slice(start, start + _CHUNK_VOXELS)
        pairs = ours[chunk].astype(np.intp)
        pairs *= classes
        pairs += theirs[chunk]
        if ours.dtype.kind == "i":
            pairs = pairs[ours[chunk] >= 0]
        counts += np.bincount(pairs, minlength=classes * classes)
    return counts.reshape(classes, classes)


def overlaps(histogram: NDArray[np.int64], structures: Iterable[Sequence[int]]) -> tuple[Overlap, ...]:
    """Read the counts of structures off a joint histogram.

    Args:
        histogram: Shape (classes, classes), as `joint_histogram` gives it.
        structures: Class indices that each structure consists of.
    """
    members = [list(indices) for indices in structures]
    return tuple(
        Overlap(
            both=int(histogram[np.ix_(indices, indices)].sum()),
            reference=int(histogram[indices].sum()),
            prediction=int(histogram[:, indices].sum()),
        )
        for indices in members
    )


def mean_dice(cases: Iterable[Sequence[Overlap]]) -> list[float | None]:
    """Mean over cases of each structure's Dice; a case where reference and prediction are both empty does not count.

    Args:
        cases: Overlaps of the same structures in each case.

    Returns:
        One value per structure; None where no case counts.
    """
    dice = [[one.dice for one in structure if not math.isnan(one.dice)] for structure in zip(*cases, strict=True)]
    return [fmean(values) if values else None for values in dice]


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else float("nan")
