"""Ways through the voxels of a volume that cost neither a copy nor a walk across memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 64
"""Voxels along each axis, about, that a sample of a volume takes."""


def thinned(channel: NDArray[Any]) -> NDArray[Any]:
    """Sample an array (*spatial) at regular steps, some 64 voxels along each axis; a view."""
    return channel[tuple(slice(None, None, max(1, n // _SAMPLES)) for n in channel.shape)]


def flat(array: NDArray[Any]) -> NDArray[Any]:
    """Flatten an array in memory order, without a copy for C and Fortran layouts."""
    return array.ravel(order="K")


def in_layout_of(array: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """An array of the same shape in the memory order of another, so that both can be walked through side by side."""
    if array.strides == tuple(stride // other.itemsize * array.itemsize for stride in other.strides):
        return array
    copy = np.empty_like(other, dtype=array.dtype)
    copy[...] = array
    return copy
