"""From a stack of slices with holes, uneven gaps or a gantry's tilt to a regular grid, where a person asks for it.

The outermost slices stay where they are. Gaps become the smallest that occurs, as in dcm2niix's equalised volumes;
slices that lean are shifted back along rows and columns, as in its tilt-corrected ones, and the picture grows by what
that needs. Interpolation is linear.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import GeometryError
from unetpipe.imaging.dicom.slices import Stack, grid_of
from unetpipe.imaging.geometry import Grid

_MOST_SLICES = 4
"""A mended volume has at most so many times the slices that there are; more means that gaps tell nothing."""


@dataclass(frozen=True)
class Repair:
    """The changes that bring a stack onto a regular grid.

    Attributes:
        order: Indices of the slices, along axis K.
        grid: The regular grid.
        resample: Maps the slices in that order, (K, J, I), to the voxels of the grid, (K, J, I).
        restore: Maps label values on the grid, (K, J, I), to the slices in that order, by nearest neighbour.
        notes: A sentence for each change.
    """

    order: tuple[int, ...]
    grid: Grid
    resample: Callable[[NDArray[Any]], NDArray[Any]] = field(default=lambda array: array)
    restore: Callable[[NDArray[Any]], NDArray[Any]] = field(default=lambda array: array)
    notes: tuple[str, ...] = ()


def repair(slices: Stack, *, fix: bool) -> Repair:
    """Arrange slices on a regular grid.

    Args:
        slices: Slices in their order along the stack.
        fix: Mend holes, uneven gaps and tilt; else the slices have to be regular as they are.

    Raises:
        GeometryError: If they are not regular, or cannot be mended: two slices at one place, gaps of no common spacing.
    """
    faults = slices.faults()
    if not faults or not fix:
        return Repair(slices.order, slices.grid())
    if faults[0].startswith("DUPLICATE"):
        raise GeometryError(faults[0])
    heights, plane = slices.heights, slices.plane
    count, gap = _even(heights)
    if count > _MOST_SLICES * len(heights):
        raise GeometryError(f"{faults[0]}; gaps differ too much to be mended")
    # what lies sideways of the first slice's normal, in pixels along rows and columns
    sideways = (slices.positions - slices.positions[0]) @ plane.directions.T / plane.spacing[::-1]
    low, high = np.floor(sideways.min(axis=0) + 1e-6).astype(int), np.ceil(sideways.max(axis=0) - 1e-6).astype(int)
    leans = any(fault.startswith("TILT") or "sideways" in fault for fault in faults)
    if not leans:
        low, high, sideways = low * 0, high * 0, sideways * 0
    rows, columns = plane.shape
    along_row, down_column = plane.directions
    corner = slices.positions[0] + along_row * plane.spacing[1] * low[0] + down_column * plane.spacing[0] * low[1]
    shape = (rows + int(high[1] - low[1]), columns + int(high[0] - low[0]))

    def resample(array: NDArray[Any]) -> NDArray[Any]:
        if leans:
            array = _shifted(array, sideways - low, shape)
        return _interpolated(array, heights, np.linspace(heights[0], heights[-1], count))

    def restore(array: NDArray[Any]) -> NDArray[Any]:
        nearest = np.rint((heights - heights[0]) / gap).astype(int)
        corners = np.rint(sideways - low).astype(int)
        return np.stack(
            [
                array[k, down : down + rows, right : right + columns]
                for k, (right, down) in zip(nearest, corners, strict=True)
            ]
        )

    notes = tuple(f"Mended by linear interpolation, because {fault}." for fault in faults)
    return Repair(slices.order, grid_of(plane, corner, plane.normal * gap, count, shape), resample, restore, notes)


def _even(heights: NDArray[np.float64]) -> tuple[int, float]:
    """Number and distance of new slices: as close as the closest pair, from the first slice to the last."""
    extent = float(heights[-1] - heights[0])
    count = int(np.rint(extent / np.diff(heights).min())) + 1
    return count, extent / (count - 1)


def _interpolated(
    array: NDArray[Any], heights: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Slices at the wanted heights, each between its two neighbours."""
    above = np.clip(np.searchsorted(heights, wanted), 1, len(heights) - 1)
    weights = (wanted - heights[above - 1]) / (heights[above] - heights[above - 1])
    result = np.empty((len(wanted), *array.shape[1:]), dtype=np.float32)
    for number, (index, weight) in enumerate(zip(above, weights, strict=True)):
        result[number] = array[index - 1] * np.float32(1 - weight) + array[index] * np.float32(weight)
    return result


def _shifted(array: NDArray[Any], by: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Move each slice by whole and fractions of pixels, (columns, rows), into a larger picture of the lowest value."""
    background = np.float32(array.min())
    result = np.full((len(array), *shape), background, dtype=np.float32)
    rows, columns = array.shape[1:]
    for number, (right, down) in enumerate(by):
        whole = np.floor((down + 1e-6, right + 1e-6)).astype(int)
        part = np.array((down, right)) - whole
        padded = np.pad(array[number].astype(np.float32), 1, constant_values=background)
        moved = padded[1:] * np.float32(1 - part[0]) + padded[:-1] * np.float32(part[0])
        moved = moved[:, 1:] * np.float32(1 - part[1]) + moved[:, :-1] * np.float32(part[1])
        top, left = whole
        height, width = min(rows + 1, shape[0] - top), min(columns + 1, shape[1] - left)
        result[number, top : top + height, left : left + width] = moved[:height, :width]
    return result
