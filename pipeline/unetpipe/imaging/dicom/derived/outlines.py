"""From a mask of pixels to the polygons around it, along the edges of the pixels.

The polygons enclose exactly the area of the mask, and no pixel's centre lies on them. Pixels that touch at a corner
only are apart, so that no polygon crosses itself.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vertices = list[int]
"""Corners of pixels along a boundary, each a pixel's edge from the one before, numbered row by row."""
_EAST = 0  # then south, west and north


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Find the boundary of each connected part of a mask.

    Holes are joined to what is around them by keyholes: the polygon runs to the hole along the edges of pixels, around
    it, and back the same way.

    Args:
        mask: Pixels, (row, column).

    Returns:
        One polygon for each part: its corners (n, 2) in pixels, the centre of the first pixel at (0, 0); closed by
        itself.
    """
    width = mask.shape[1] + 1  # corners in a line
    loops = _boundaries(mask)
    outer = [loop for loop in loops if _area(loop, width) > 0]
    if holes := [loop for loop in loops if _area(loop, width) < 0]:
        _join(holes, outer, width)
    return [np.stack(np.divmod(_turns(loop), width), axis=1) - 0.5 for loop in outer]


def _boundaries(mask: NDArray[np.bool_]) -> list[Vertices]:
    """Closed boundaries, the mask on their right: clockwise around parts, the other way around holes."""
    padded = np.pad(mask, 1)
    above, below = padded[:-1, 1:], padded[1:, 1:]  # pixels right of each corner
    above_left, below_left = padded[:-1, :-1], padded[1:, :-1]
    leaving = (below & ~above, below_left & ~below, above_left & ~below_left, above & ~above_left)
    stacked = np.stack(leaving)
    is_crossing = (stacked.sum(axis=0) == 2).ravel().tolist()
    only = stacked.argmax(axis=0).ravel().tolist()
    width = mask.shape[1] + 1
    steps = (1, width, -1, -width)
    waiting = set(np.flatnonzero(leaving[_EAST]).tolist())
    loops = []
    for start in sorted(waiting):
        if start not in waiting:
            continue
        loop: Vertices = []
        corner, direction = start, _EAST
        while not loop or (corner, direction) != (start, _EAST):
            loop.append(corner)
            if direction == _EAST:
                waiting.discard(corner)
            corner += steps[direction]
            direction = (direction + 1) % 4 if is_crossing[corner] else only[corner]
        loops.append(loop)
    return loops


def _area(loop: Vertices, width: int) -> int:
    """Area that a boundary encloses, in pixels; negative where it runs around a hole."""
    rows, columns = np.divmod(np.array(loop), width)
    return int(np.sum(columns * (np.roll(rows, -1) - np.roll(rows, 1)))) // 2


def _join(holes: Sequence[Vertices], outer: Sequence[Vertices], width: int) -> None:
    """Insert each hole into the boundary that the line of pixel edges to the left of its leftmost corner meets.

    Between the hole and the first corner on that line lie pixels of the mask only, so that this corner belongs to the
    same part: to its boundary, or to a hole further left, which was inserted before.
    """
    owner = {corner: loop for loop in outer for corner in loop}
    for hole in sorted(holes, key=lambda loop: min(corner % width for corner in loop)):
        start = min(hole, key=lambda corner: (corner % width, corner))
        meeting = start - 1
        while meeting not in owner:
            meeting -= 1
        way = list(range(meeting + 1, start))
        first = hole.index(start)
        loop = owner[meeting]
        after = loop.index(meeting) + 1
        loop[after:after] = [*way, *hole[first:], *hole[:first], start, *reversed(way), meeting]
        owner.update(dict.fromkeys(hole, loop))


def _turns(loop: Vertices) -> NDArray[np.int64]:
    """The corners of a boundary at which it changes its direction."""
    corners: NDArray[np.int64] = np.array(loop)
    turns: NDArray[np.bool_] = np.roll(corners, -1) - corners != corners - np.roll(corners, 1)
    return corners[turns]
