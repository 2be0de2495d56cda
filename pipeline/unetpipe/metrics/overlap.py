"""Counting voxels: Dice, IoU, sensitivity, precision and volumes, all classes from one joint histogram.

With TP, FP, FN the voxels of a class that both hold, only the prediction holds, and only the reference holds:
Dice = 2 TP / (2 TP + FP + FN), IoU = TP / (TP + FP + FN), sensitivity = TP / (TP + FN), precision = TP / (TP + FP).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHUNK_VOXELS = 1 << 20
"""Voxels counted at a time: bounds the temporary arrays at a few megabytes."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Voxel counts of one class.

    Attributes:
        both: Voxels that reference and prediction hold (TP).
        reference: Voxels of the reference (TP + FN).
        prediction: Voxels of the prediction (TP + FP).
    """

    both: int
    reference: int
    prediction: int

    @property
    def dice(self) -> float:
        """NaN when both are empty, 0 when one is."""
        return _ratio(2 * self.both, self.reference + self.prediction)

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
        reference: Class indices in [0, classes), any shape.
        prediction: Likewise, of the same shape.
        classes: How many classes there are, background included.

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
        counts += np.bincount(pairs, minlength=classes * classes)
    return counts.reshape(classes, classes)


def overlaps(histogram: NDArray[np.int64]) -> Sequence[Overlap]:
    """Read every class's counts off a joint histogram of shape (classes, classes)."""
    both, reference, prediction = np.diag(histogram), histogram.sum(1), histogram.sum(0)
    return [
        Overlap(both=int(b), reference=int(r), prediction=int(p))
        for b, r, p in zip(both, reference, prediction, strict=True)
    ]


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else float("nan")
