"""Planar polygons to pixels."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_ON_EDGE = 1e-3
"""Greatest distance from an edge of a pixel's centre that lies on it, in pixels: more than files lose in rounding."""


def fill_polygons(polygons: Iterable[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Find the pixels whose centres lie inside an odd number of polygons, or on the edge of one.

    A polygon inside another is a hole, and so is what a polygon encloses that enters itself by a keyhole. Pixels on an
    edge count, because many programs draw contours through the centres of the outermost pixels.

    Args:
        polygons: Vertices (n, 2) in pixels, the centre of the first pixel at (0, 0); closed by themselves.
        shape: Shape of the picture.

    Returns:
        Shape `shape`.
    """
    crossings = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    edges = np.zeros(shape, dtype=np.bool_)
    for polygon in polygons:
        for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            _cross(start, end, crossings)
            _touch(start, end, edges)
    inside: NDArray[np.bool_] = (np.cumsum(crossings[:, :-1], axis=1) % 2).astype(np.bool_)
    return inside | edges


def _cross(start: NDArray[np.float64], end: NDArray[np.float64], crossings: NDArray[np.int64]) -> None:
    """Count, in each line of pixels that an edge crosses, the pixels beyond it."""
    low, high = (start, end) if start[0] <= end[0] else (end, start)
    lines = np.arange(max(int(np.ceil(low[0])), 0), min(int(np.ceil(high[0])), len(crossings)))  # without the upper end
    if len(lines):
        places = low[1] + (lines - low[0]) / (high[0] - low[0]) * (high[1] - low[1])
        np.add.at(crossings, (lines, np.clip(np.ceil(places), 0, crossings.shape[1] - 1).astype(np.int64)), 1)


def _touch(start: NDArray[np.float64], end: NDArray[np.float64], edges: NDArray[np.bool_]) -> None:
    """Mark the pixels whose centres lie on an edge."""
    along = int(np.abs(end - start).argmax())
    low, high = (start, end) if start[along] <= end[along] else (end, start)
    first, last = int(np.ceil(low[along] - _ON_EDGE)), int(np.floor(high[along] + _ON_EDGE))
    lines = np.arange(max(first, 0), min(last, edges.shape[along] - 1) + 1)
    length = float(high[along] - low[along])
    part = np.clip((lines - low[along]) / length, 0, 1) if length > 0 else np.zeros(len(lines))
    places = low[1 - along] + part * (high[1 - along] - low[1 - along])
    nearest = np.rint(places).astype(np.int64)
    on = (np.abs(places - nearest) <= _ON_EDGE) & (nearest >= 0) & (nearest < edges.shape[1 - along])
    index = (lines[on], nearest[on]) if along == 0 else (nearest[on], lines[on])
    edges[index] = True
