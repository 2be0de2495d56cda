"""Voxels that are NaN, infinite or become so: found in the input and counted, before they spread through a network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ImageFileError

_LARGEST = float(np.finfo(np.float32).max)  # networks compute in no more than 32 bits


def describe_non_finite(values: NDArray[Any]) -> str | None:
    """Count the voxels that are no numbers, or none in 32 bits.

    Args:
        values: Any type and shape.

    Returns:
        Such as ``1 voxel is NaN`` or ``2 voxels are NaN, 3 are infinite``; None where every voxel is finite in float32.
    """
    if not np.issubdtype(values.dtype, np.inexact):
        return None
    extremes = float(values.min()), float(values.max())
    if all(abs(value) <= _LARGEST for value in extremes):  # no array of flags for the usual case
        return None
    nan = int(np.count_nonzero(np.isnan(values)))
    infinite = int(np.count_nonzero(np.isinf(values)))
    kinds = [(nan, "NaN"), (infinite, "infinite")]
    if values.dtype.itemsize > np.dtype(np.float32).itemsize:
        beyond = np.count_nonzero(values > _LARGEST) + np.count_nonzero(values < -_LARGEST)
        kinds.append((int(beyond) - infinite, "too large for 32 bits"))
    counted = [(count, what) for count, what in kinds if count]
    (first, what), *others = counted
    text = f"{first} voxel{' is' if first == 1 else 's are'} {what}"
    return text + "".join(f", {count} {'is' if count == 1 else 'are'} {what}" for count, what in others)


def refuse_non_finite(image: Sequence[NDArray[Any]], channels: Sequence[str]) -> None:
    """See that every voxel of an image is a finite number.

    Args:
        image: One array (*spatial) for each channel, any type.
        channels: Name of each channel.

    Raises:
        ImageFileError: If a voxel is NaN, infinite or too large for float32; counts them for each channel.
    """
    counted = [(name, describe_non_finite(channel)) for name, channel in zip(channels, image, strict=True)]
    found = [f"channel {name}: {text}" if len(channels) > 1 else text for name, text in counted if text is not None]
    if found:
        raise ImageFileError("; ".join(found))
