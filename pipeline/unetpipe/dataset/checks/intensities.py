"""Intensities of one channel: in its foreground, which nnU-Net's CT scheme goes by, and in the whole image."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.dataset.checks.hounsfield import HounsfieldShares, hounsfield_shares
from unetpipe.dataset.checks.voxels import flat, thinned
from unetpipe.documents import Record

QUANTILES = 501
"""Quantiles of a channel's foreground: one every 0.2 %, with the extremes."""
QUANTILE_SAMPLE = 100_000
"""Number of foreground voxels, evenly spread, that quantiles are taken from."""
_CHUNK = 1 << 22
"""Voxels that are measured at a time: they fit the caches, and bound the memory that measuring takes."""


class Foreground(Record):
    """Intensities where the label is not background: exact moments, and quantiles from the least to the greatest."""

    mean: float
    std: float
    quantiles: tuple[float, ...]


class ImageIntensities(Record):
    """Intensities of a whole image, from some 64 voxels along each axis.

    Attributes:
        mean, std: Mean and standard deviation of all of them.
        percentile_00_5, percentile_99_5: What 99 % of them lie between.
        clipped_mean, clipped_std: The same after clipping to these percentiles.
    """

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float
    clipped_mean: float
    clipped_std: float


class ChannelStatistics(Record):
    """Intensities of one channel.

    Attributes:
        minimum, maximum: Least and greatest value of all voxels.
        image: Intensities of the whole image, sampled.
        hounsfield: Distribution of the intensities over the scale of CT, from a sample of the whole image.
        binary: Whether all voxels that are not 0 have one value.
        foreground: Intensities where the label is not background; None if it is background everywhere.
    """

    minimum: float
    maximum: float
    image: ImageIntensities
    hounsfield: HounsfieldShares
    binary: bool
    foreground: Foreground | None


def channel_statistics(image: NDArray[Any], label: NDArray[Any], outside: Sequence[int]) -> ChannelStatistics:
    """Compute the statistics of one channel.

    Args:
        image: Finite intensities of any shape.
        label: Same shape and same memory layout.
        outside: Label values that are not foreground.
    """
    values, classes = flat(image), flat(label)
    minimum, maximum = np.inf, -np.inf
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK]
        minimum, maximum = min(minimum, float(part.min())), max(maximum, float(part.max()))
    sample = thinned(image).astype(np.float64)
    low, high = np.percentile(sample, [0.5, 99.5])
    clipped = sample.clip(low, high)
    return ChannelStatistics(
        minimum=minimum,
        maximum=maximum,
        image=ImageIntensities(
            mean=float(sample.mean()),
            std=float(sample.std()),
            percentile_00_5=float(low),
            percentile_99_5=float(high),
            clipped_mean=float(clipped.mean()),
            clipped_std=float(clipped.std()),
        ),
        hounsfield=hounsfield_shares(sample),
        binary=_is_binary(values, sample),
        foreground=_foreground(values, classes, outside),
    )


def _foreground(values: NDArray[Any], classes: NDArray[Any], outside: Sequence[int]) -> Foreground | None:
    total = squares = 0.0
    kept: list[NDArray[Any]] = []
    count = classes.size - sum(int(np.count_nonzero(classes == value)) for value in outside)
    stride = max(1, -(-count // QUANTILE_SAMPLE))
    seen, low, high = 0, np.inf, -np.inf
    for start in range(0, values.size, _CHUNK):
        part, inside = values[start : start + _CHUNK], classes[start : start + _CHUNK]
        chosen = part[reduce(np.logical_and, [inside != value for value in outside])].astype(np.float64)
        if chosen.size:
            total += float(chosen.sum())
            squares += float(chosen @ chosen)
            low, high = min(low, float(chosen.min())), max(high, float(chosen.max()))
            kept.append(chosen[-seen % stride :: stride])
            seen += chosen.size
    if not seen:
        return None
    mean = total / seen
    quantiles = np.quantile(np.concatenate(kept), np.linspace(0, 1, QUANTILES))
    quantiles[0], quantiles[-1] = low, high
    return Foreground(
        mean=mean,
        std=float(np.sqrt(max(squares / seen - mean**2, 0.0))),
        quantiles=tuple(float(f"{value:.6g}") for value in quantiles.tolist()),
    )


def _is_binary(values: NDArray[Any], sample: NDArray[np.float64]) -> bool:
    """Whether all values that are not 0 are one; the sample settles it for all but a few images."""
    seen = sample[sample != 0]
    if seen.size and seen.min() != seen.max():
        return False
    others = values[values != 0]
    return bool(others.size) and others.min() == others.max()
