"""Which separate lesions were found: connected components of reference and prediction, matched by touch.

A reference component counts as found when the prediction holds at least one of its voxels, and as missed
otherwise; a predicted component that holds no reference voxel is false. Components connect over faces, edges and
corners.
F1 = 2 found / (2 found + missed + false).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import generate_binary_structure, label


@dataclass(frozen=True, kw_only=True)
class Lesions:
    """Components found, missed (both of the reference) and false (of the prediction)."""

    found: int
    missed: int
    false: int

    @property
    def f1(self) -> float:
        """NaN when there is no component at all."""
        total = 2 * self.found + self.missed + self.false
        return 2 * self.found / total if total else float("nan")


def match_lesions(reference: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> Lesions:
    """Match the connected components of two masks of the same shape."""
    structure = generate_binary_structure(reference.ndim, reference.ndim)
    ours, count = label(reference, structure)
    theirs, predicted = label(prediction, structure)
    found = np.unique(ours[prediction & reference]).size
    true = np.unique(theirs[prediction & reference]).size
    return Lesions(found=found, missed=count - found, false=predicted - true)
