"""How far each element of one surface lies from another surface: exact, and fast where the two are close.

Segmentations that are worth comparing mostly agree, so the elements of one surface mostly have an element of the
other in the same cell or next to it. Those are found by looking into the surrounding cells in the order of their
distance; only what is left asks a k-d tree.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Steps = tuple[tuple[float, ...], ...]
"""The way from a voxel to the next one along each axis, in mm, along as many axes of the world."""
REACH = 2
"""Cells searched on each side along each axis. Surfaces must keep that far from the ends of their array."""


@dataclass(frozen=True)
class Surface:
    """The elements of one mask's surface, as `surfels.neighbour_codes` finds them.

    Attributes:
        cells: True where the surface passes, a contiguous array; its outermost `REACH` cells on every side are False.
        index: Flat indices of the True cells, ascending.
        areas: Area of each element in mm² (in 2-D its length in mm), in the order of `index`.
    """

    cells: NDArray[np.bool_]
    index: NDArray[np.intp]
    areas: NDArray[np.float64]


def distances_mm(start: Surface, target: Surface, steps_mm: Steps) -> NDArray[np.float64]:
    """Measure the distance from each element of `start` to the closest element of `target`.

    Args:
        start: Surface whose elements ask.
        target: Surface on the same grid; not empty.
        steps_mm: The way from a voxel to the next one along each axis.

    Returns:
        In mm, shape (elements of `start`,), in the order of ``start.index``.
    """
    cells = target.cells.reshape(-1)
    strides = np.array(target.cells.strides)  # of bytes, and so of cells
    found = np.empty(start.index.size)
    left = np.arange(start.index.size)
    place = start.index
    for distance, offsets in _rings(steps_mm):
        if not left.size:
            return found
        steps = offsets @ strides
        hit = cells[place + steps[0]]
        for step in steps[1:]:
            hit |= cells[place + step]
        found[left[hit]] = distance
        left, place = left[~hit], place[~hit]
    if left.size:
        tree = cKDTree(_positions_mm(target.index, target.cells.shape, steps_mm), leafsize=32, balanced_tree=False)
        found[left] = tree.query(_positions_mm(place, target.cells.shape, steps_mm))[0]
    return found


@lru_cache(maxsize=256)
def _rings(steps_mm: Steps) -> list[tuple[float, NDArray[np.intp]]]:
    """Offsets within `REACH` cells by distance in mm, ascending, as far as no cell outside can be nearer."""
    ways = np.array(steps_mm)
    certain = (REACH + 1) / np.linalg.norm(np.linalg.pinv(ways), axis=0).max()  # between planes, which may be sheared
    steps = product(range(-REACH, REACH + 1), repeat=len(ways))
    measured = sorted((float(np.linalg.norm(step @ ways)), step) for step in steps)
    rings = groupby((item for item in measured if item[0] < certain), key=lambda item: item[0])
    return [(distance, np.array([step for _, step in ring])) for distance, ring in rings]


def _positions_mm(index: NDArray[np.intp], shape: tuple[int, ...], steps_mm: Steps) -> NDArray[np.float64]:
    positions: NDArray[np.float64] = np.stack(np.unravel_index(index, shape), axis=1) @ np.array(steps_mm)
    return positions
