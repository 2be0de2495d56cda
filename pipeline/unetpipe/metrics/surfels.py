"""The surface of a mask, in elements of known area.

Between 2x2x2 neighbouring voxel centres lies a cell. Eight bits say which of its corners are inside the mask; where
some are and some are not, the surface passes through the cell, and the code determines its area by marching cubes (its
length by marching squares in 2-D). The element's place is the cell's centre.

Source:
    Lorensen & Cline 1987, SIGGRAPH 21:163; areas equal those of https://github.com/google-deepmind/surface-distance.
"""

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from unetpipe.imaging.geometry import Spacing

Corner = tuple[int, ...]


def neighbour_codes(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Code each 2x2x2 (2x2 in 2-D) cell of a mask by which of its corners are inside.

    Args:
        mask: 0 or 1, shape (I, J, K) or (I, J).

    Returns:
        Shape (I-1, J-1, K-1) or (I-1, J-1). The corner at offset (i, j, k) has bit 4 i + 2 j + k, in 2-D bit 2 i + j.
    """
    codes = mask
    for axis in reversed(range(mask.ndim)):
        bits = 1 << (mask.ndim - 1 - axis)
        lower = codes[(slice(None),) * axis + (slice(None, -1),)]
        upper = codes[(slice(None),) * axis + (slice(1, None),)]
        codes = np.left_shift(upper, bits)
        codes |= lower
    return codes


@lru_cache(maxsize=256)
def element_areas(spacing_mm: Spacing) -> NDArray[np.float64]:
    """Area in mm² (length in mm in 2-D) of the surface in a cell of each neighbour code.

    Args:
        spacing_mm: Distance of voxel centres along each axis, two or three of them.

    Returns:
        Shape (256,) in 3-D, (16,) in 2-D; 0 for the codes all-outside and all-inside.
    """
    corners = list(product((0, 1), repeat=len(spacing_mm)))
    measure = _length if len(spacing_mm) == 2 else _area
    areas = np.zeros(1 << len(corners))
    for code in range(areas.size):
        inside = {corner for bit, corner in enumerate(corners) if code >> bit & 1}
        if 2 * len(inside) > len(corners):  # a surface is the same seen from its other side
            inside = set(corners) - inside
        areas[code] = sum(measure(part, spacing_mm) for part in _edge_connected(inside))
    areas.setflags(write=False)
    return areas


def _edge_connected(corners: set[Corner]) -> list[list[Corner]]:
    """Split corners into groups joined by the cell's edges: each group has its own sheet of surface."""
    left, groups = set(corners), []
    while left:
        group = [left.pop()]
        for corner in group:
            near = {other for other in left if _axes_between(corner, other).sum() == 1}
            group.extend(sorted(near))
            left -= near
        groups.append(group)
    return groups


def _axes_between(corner: Corner, other: Corner) -> NDArray[np.int_]:
    """1 for each axis along which two corners differ."""
    return np.array([int(a != b) for a, b in zip(corner, other, strict=True)])


def _length(group: list[Corner], spacing_mm: Spacing) -> float:
    """Length of the contour that cuts one group off a 2x2 cell, through the middle of edges."""
    if len(group) == 1:
        return float(np.linalg.norm(spacing_mm)) / 2
    return float(spacing_mm[int(np.argmax(_axes_between(*group)))])


def _area(group: list[Corner], spacing_mm: Spacing) -> float:
    """Area of the sheet that cuts one group of up to four corners off a 2x2x2 cell, through the middle of edges."""
    x, y, z = spacing_mm
    faces = np.array([y * z, x * z, x * y])  # of the cell, normal to each axis
    slanted = float(np.linalg.norm(faces))  # eight times the triangle that cuts off one corner
    varies = np.ptp(group, axis=0).astype(bool)
    match len(group):
        case 1:
            return slanted / 8
        case 2:  # a rectangle along the edge
            return float(np.linalg.norm(faces[~varies])) / 2
        case 3:  # an L in one face: half of that face, and a trapezium
            return float(faces[~varies][0]) / 2 + slanted * 3 / 8
        case _ if not varies.all():  # one whole face
            return float(faces[~varies][0])
    degrees = [sum(_axes_between(corner, other).sum() == 1 for other in group) for corner in group]
    if max(degrees) == 3:  # a corner and its three neighbours: a regular hexagon
        return slanted * 3 / 4
    # A chain through all three axes: half the hexagon's plane and two triangles, each normal to the axis of an end.
    inner = [corner for corner, degree in zip(group, degrees, strict=True) if degree == 2]
    middle = int(np.argmax(_axes_between(*inner)))
    ends = [axis for axis in range(3) if axis != middle]
    return slanted / 2 + sum(float(np.hypot(faces[axis], faces[middle])) for axis in ends) / 4
