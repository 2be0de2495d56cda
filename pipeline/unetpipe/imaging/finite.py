"""Voxels that are NaN or infinite: found in the input and counted, before they spread through a network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ImageFileError


def describe_non_finite(values: NDArray[Any]) -> str | None:
    """Count the voxels that are no numbers.

    Args:
        values: Any type and shape.

    Returns:
        Such as ``1 voxel is NaN`` or ``2 voxels are NaN, 3 are infinite``; None where every voxel is finite.
    """
    if not np.issubdtype(values.dtype, np.inexact):
        return None
    if np.isfinite(values.min()) and np.isfinite(values.max()):  # no array of flags for the usual case
        return None
    nan = int(np.count_nonzero(np.isnan(values)))
    infinite = int(np.count_nonzero(np.isinf(values)))
    counted = [(count, what) for count, what in ((nan, "NaN"), (infinite, "infinite")) if count]
    (first, what), *others = counted
    text = f"{first} voxel{' is' if first == 1 else 's are'} {what}"
    return text + "".join(f", {count} {'is' if count == 1 else 'are'} {what}" for count, what in others)


def refuse_non_finite(image: Sequence[NDArray[Any]], channels: Sequence[str]) -> None:
    """See that every voxel of an image is a finite number.

    Args:
        image: One array (*spatial) for each channel, any type.
        channels: Name of each channel.

    Raises:
        ImageFileError: If a voxel is NaN or infinite; counts them for each channel.
    """
    counted = [(name, describe_non_finite(channel)) for name, channel in zip(channels, image, strict=True)]
    found = [f"channel {name}: {text}" if len(channels) > 1 else text for name, text in counted if text is not None]
    if found:
        raise ImageFileError("; ".join(found))
