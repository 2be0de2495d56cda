"""Whether intensities are Hounsfield units, where nothing says that images are CT.

Hounsfield units are the same everywhere: air is -1000, fat -100, water 0, soft tissue up to 250 with contrast medium.
In a CT scan a peak at air stands apart, and most of what is denser than fat is soft tissue. No other modality has both.
MR signals have no negative values; those of phase images, of images shifted by an offset, and of images that were
scaled to mean 0 are spread far beyond soft tissue. Padding with -1024 and the like is one value, the least of the
image, and does not count.

Shares are averaged over a dataset before they decide, since a crop of lung has little soft tissue. Thresholds were set
between crops of lung CT (soft tissue: 68 to 79 % of what is dense) and MR of brains and hippocampi under any offset and
scale (at most 55 %).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.documents import Record

_AIR_HU = (-1100, -700)
_BETWEEN_HU = (-700, -400)
"""Where CT has little outside of lungs: as much here as in air is an edge between padding and image, not a peak."""
_DENSE_HU = -300
_SOFT_HU = (-150, 250)

_LEAST_AIR = 0.05
"""More than the plane or two between padding and image that interpolation may have put there."""
_LEAST_PEAK = 1.5
_LEAST_DENSE = 0.02
_LEAST_SOFT = 0.6


class HounsfieldShares(Record):
    """Shares of an image's voxels, those of its least value left out.

    Attributes:
        air: From -1100 to -700.
        between: From -700 to -400.
        dense: Above -300.
        soft: From -150 to 250.
    """

    air: float = 0.0
    between: float = 0.0
    dense: float = 0.0
    soft: float = 0.0


def hounsfield_shares(sample: NDArray[Any]) -> HounsfieldShares:
    """Measure an image.

    Args:
        sample: Voxels from all over it, any shape.
    """
    values = sample[sample > sample.min()]
    if not values.size:
        return HounsfieldShares()

    def share(low: float, high: float) -> float:
        return round(float(np.mean((values > low) & (values < high))), 4)

    return HounsfieldShares(
        air=share(*_AIR_HU), between=share(*_BETWEEN_HU), dense=share(_DENSE_HU, np.inf), soft=share(*_SOFT_HU)
    )


def resembles_hounsfield(images: Sequence[HounsfieldShares]) -> bool:
    """Whether the intensities of a dataset's images are most likely Hounsfield units."""
    air, between, dense, soft = np.mean([(one.air, one.between, one.dense, one.soft) for one in images], axis=0)
    return bool(
        air >= _LEAST_AIR and air >= _LEAST_PEAK * between and dense >= _LEAST_DENSE and soft >= _LEAST_SOFT * dense
    )
