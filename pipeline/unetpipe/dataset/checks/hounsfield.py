"""Whether intensities are Hounsfield units, where nothing says that images are CT.

Hounsfield units are the same everywhere: air is -1000, fat -100, water 0, soft tissue up to 250 with contrast medium.
In a CT scan a peak at air stands apart, and most of what is denser than fat is soft tissue. No other modality has both.
MR signals have no negative values; those of phase images, of images shifted by an offset, and of images that were
scaled to mean 0 are spread far beyond soft tissue. The least value of an image may be padding, with -1024 and the like:
it counts as air only where fat shows that other negative values mean something.

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
_FAT_HU = (-200, -20)
_SOFT_HU = (-150, 250)

_LEAST_AIR = 0.05
"""More than the plane or two between padding and image that interpolation may have put there."""
_LEAST_PEAK = 1.5
_LEAST_FAT = 0.05
_LEAST_DENSE = 0.02
_LEAST_SOFT = 0.6


class HounsfieldShares(Record):
    """Shares of an image's voxels, all but the first of those above its least value.

    Attributes:
        clipped: Share of voxels at the least value, where that lies from -1100 to -700; else 0.
        air: Share of voxels from -1100 to -700.
        between: Share of voxels from -700 to -400.
        dense: Share of voxels above -300.
        fat: Share of voxels from -200 to -20.
        soft: Share of voxels from -150 to 250.
    """

    clipped: float = 0.0
    air: float = 0.0
    between: float = 0.0
    dense: float = 0.0
    fat: float = 0.0
    soft: float = 0.0


def hounsfield_shares(sample: NDArray[Any]) -> HounsfieldShares:
    """Measure the shares of an image's voxels in ranges of Hounsfield units.

    Args:
        sample: Voxels from all over it, any shape.
    """
    least = float(sample.min())
    values = sample[sample > least]
    if not values.size:
        return HounsfieldShares()

    def share(low: float, high: float) -> float:
        return round(float(np.mean((values > low) & (values < high))), 4)

    low, high = _AIR_HU
    return HounsfieldShares(
        clipped=round(1 - values.size / sample.size, 4) if low < least < high else 0.0,
        air=share(low, high),
        between=share(*_BETWEEN_HU),
        dense=share(_DENSE_HU, np.inf),
        fat=share(*_FAT_HU),
        soft=share(*_SOFT_HU),
    )


def resembles_hounsfield(images: Sequence[HounsfieldShares]) -> bool:
    """Whether the intensities of a dataset's images are most likely Hounsfield units."""
    mean = HounsfieldShares(
        **{name: float(np.mean([getattr(one, name) for one in images])) for name in HounsfieldShares.model_fields}
    )
    peak_at_air = mean.air >= _LEAST_AIR and mean.air >= _LEAST_PEAK * mean.between
    clipped_air = mean.clipped >= _LEAST_AIR and mean.fat >= _LEAST_FAT * mean.dense
    tissue = mean.dense >= _LEAST_DENSE and mean.soft >= _LEAST_SOFT * mean.dense
    return (peak_at_air or clipped_air) and tissue
