"""Bounding boxes of what an array holds. Needs no torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.imaging.geometry import Shape

Box = tuple[slice, ...]
"""One slice with start and stop along each axis."""


def mask_box(mask: NDArray[np.bool_]) -> Box | None:
    """Smallest box that holds all true voxels of a mask of any shape; None if there are none."""
    return _box_of(_occupied(mask))


def nonzero_box(channels: Sequence[NDArray[Any]]) -> tuple[Shape, Shape]:
    """Start and stop of the box around the voxels that differ from 0 in any channel; the whole if there are none.

    Args:
        channels: Arrays of one shape (*spatial), of any type.
    """
    of_each = zip(*(_occupied(channel != 0) for channel in channels), strict=True)
    box = _box_of([np.logical_or.reduce(planes) for planes in of_each])
    if box is None:
        return (0,) * channels[0].ndim, channels[0].shape
    return tuple(part.start for part in box), tuple(part.stop for part in box)


def filled_mask(channels: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Voxels that differ from 0 in any channel, and the holes that they enclose.

    Args:
        channels: Arrays of one shape (*spatial), of any type.

    Source:
        nnU-Net's ``create_nonzero_mask``.
    """
    from scipy.ndimage import binary_fill_holes  # a tenth of a second to import

    filled: NDArray[np.bool_] = binary_fill_holes(np.logical_or.reduce([channel != 0 for channel in channels]))
    return filled


def class_boxes(labels: NDArray[np.integer], classes: int) -> list[Box | None]:
    """Boxes of classes 1 to `classes` in an array of class indices, in this order; None where a class is not there."""
    from scipy.ndimage import find_objects  # a tenth of a second to import, which checking a dataset has no use for

    boxes: list[Box | None] = find_objects(labels, max_label=classes)
    return boxes


def union(first: Box | None, second: Box | None) -> Box | None:
    """Smallest box that holds both; None is empty."""
    if first is None or second is None:
        return first or second
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))


def _occupied(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Find the planes across each axis that hold a true voxel."""
    axes = range(mask.ndim)
    return [np.asarray(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]


def _box_of(occupied: Sequence[NDArray[np.bool_]]) -> Box | None:
    found = [np.flatnonzero(planes) for planes in occupied]
    if not all(planes.size for planes in found):
        return None
    return tuple(slice(int(planes[0]), int(planes[-1]) + 1) for planes in found)
