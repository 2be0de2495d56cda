"""The files of one case on one grid: which voxels of a second file are those of the first, and in which axis order.

The first image's header alone decides how axes run to right, anterior and superior. A second header only says where its
voxels lie relative to the first's. Were each header asked for its own nearest axes, planes at 45 degrees could get two
answers for one grid: both axes are equally near, and the rounding of the header decides.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import GeometryError
from unetpipe.imaging.geometry import Grid, Orientation, orientation_to_ras
from unetpipe.imaging.volume import Volume

_SAME_SIZE = 0.01
"""Voxel sizes that differ by more than this part are of two resolutions."""
GRID_TOLERANCE = 0.1
"""Two files lie on one grid if no voxel is further from its counterpart than this part of a voxel, along any axis.

Headers that round direction cosines to four decimals put the ends of 512 voxels up to 0.05 voxels apart. Headers of two
conventions, such as the centre and the corner of a voxel, differ by 0.5."""


@lru_cache(maxsize=1024)
def orientation_like(reference: Grid, other: Grid) -> Orientation | None:
    """Find the orientation that brings arrays of another file to the RAS+ order of the reference's header.

    Args:
        reference: Grid of the first image.
        other: Grid of a file that may hold the same voxels with axes permuted or flipped.

    Returns:
        Permutation and flips for arrays on `other`; None where the two do not hold the same voxels to within
        `GRID_TOLERANCE`.
    """
    if reference.ndim != other.ndim:
        return None
    to_ras = orientation_to_ras(reference)
    if reference.difference_voxels(other) <= GRID_TOLERANCE:
        return to_ras
    if "voxel" in (reference.unit, other.unit):
        return None  # where one file states no place, only the order of its voxels relates it to the other
    to_reference = _nearest_axes(reference, other)
    if to_reference is None or reference.difference_voxels(other.turned(to_reference)) > GRID_TOLERANCE:
        return None
    return to_reference.then(to_ras)


def _nearest_axes(reference: Grid, other: Grid) -> Orientation | None:
    """Axis of `other` along each axis of `reference`, and whether it runs against it; None where two claim one."""
    cosines = np.linalg.pinv(_directions(reference)) @ _directions(other)
    axes = tuple(int(axis) for axis in np.abs(cosines).argmax(axis=1))
    if len(set(axes)) < len(axes):
        return None
    return Orientation(axes=axes, flips=tuple(bool(row[axis] < 0) for row, axis in zip(cosines, axes, strict=True)))


def _directions(grid: Grid) -> NDArray[np.float64]:
    """Unit vectors along a grid's axes, as columns (3, axes)."""
    directions: NDArray[np.float64] = grid.matrix[:3, : grid.ndim] / grid.spacing_mm
    return directions


def same_voxels(reference: Grid, other: Grid) -> bool:
    """Whether two grids hold the same voxels, in the same or another axis order."""
    return orientation_like(reference, other) is not None


def aligned(volume: Volume, reference: Grid, *, adopt_affine: bool = False) -> Volume:
    """Bring a volume into the axis order of a reference grid.

    Args:
        volume: A volume that holds the voxels of `reference`, in any axis order.
        reference: Grid of the first image.
        adopt_affine: Take a volume of the same shape that lies elsewhere as if it lay on `reference`.

    Returns:
        The volume on `reference`; its array is a view.

    Raises:
        GeometryError: If it does not hold the same voxels; says how the two differ.
    """
    orientation = orientation_like(reference, volume.grid)
    if orientation is not None:
        array = orientation_to_ras(reference).from_ras(orientation.to_ras(volume.array))
    elif adopt_affine and volume.grid.shape == reference.shape:
        array = volume.array
    else:
        raise GeometryError(describe_difference(reference, volume.grid))
    return replace(volume, array=array, grid=reference)


def about_frames(first: Volume, other: Volume) -> tuple[str, ...]:
    """A sentence where two files of a case state different frames of reference; none where one states none.

    Coordinates of two frames of reference have nothing to do with each other (PS3.3, C.7.4.1): equal grids, which one
    protocol gives at every time point, do not make the voxels the same.
    """
    stated = first.frames_of_reference, other.frames_of_reference
    if not all(stated) or stated[0] == stated[1]:
        return ()
    return ("Its frame of reference is not that of the first image: make sure that both are of one examination.",)


def aligned_channels(volumes: Sequence[Volume], *, adopt_affine: bool = False) -> list[Volume]:
    """Bring the files of one image to the grid and axis order of the first.

    Args:
        volumes: Volumes, at least one.
        adopt_affine: Take a volume of the same shape that lies elsewhere as if it lay on the reference grid.

    Raises:
        GeometryError: If one does not hold the first's voxels; says which, how they differ, and what can be done.
    """
    first, *others = volumes
    channels = [first]
    for number, volume in enumerate(others, start=2):
        try:
            placed = aligned(volume, first.grid, adopt_affine=adopt_affine)
        except GeometryError as error:
            hint = way_on(first.grid, volume.grid)
            raise GeometryError(f"file {number} of the image has {error}{hint}") from error
        notes = [f"Channel file {number}: {note}" for note in about_frames(first, volume)]
        channels.append(replace(placed, notes=(*placed.notes, *notes)))
    return channels


def describe_difference(expected: Grid, found: Grid) -> str:
    """Describe how two grids that do not hold the same voxels differ, the most informative difference first."""
    if found.shape != expected.shape:
        swapped = sorted(found.shape) == sorted(expected.shape)
        hint = ", the same sizes in another order: were its axes swapped when it was saved?" if swapped else ""
        if found.ndim != expected.ndim and _without_ones(found) == _without_ones(expected):
            hint = ", a picture against a slice of a volume"
        return f"shape {found.shape} instead of {expected.shape}{hint}"
    apart = f"and lies up to {expected.difference_mm(found):.4g} mm away"
    if not np.allclose(found.spacing_mm, expected.spacing_mm, rtol=1e-4):
        return f"spacing {in_mm(found.spacing_mm)} instead of {in_mm(expected.spacing_mm)}, {apart}"
    if not np.allclose(found.matrix[:3, :3], expected.matrix[:3, :3], atol=1e-4 * max(expected.spacing_mm)):
        turned = "another orientation"
        if expected.ndim == 3 and axis_codes(found) != axis_codes(expected):
            turned = f"axes that run to {axis_codes(found)} instead of {axis_codes(expected)}"
        return f"{turned}, {apart}"
    voxels = expected.difference_voxels(found)
    return f"an origin shifted by {expected.difference_mm(found):.4g} mm ({voxels:.2g} voxels)"


def _without_ones(grid: Grid) -> list[int]:
    return [size for size in grid.shape if size > 1]


def way_on(expected: Grid, found: Grid) -> str:
    """Advice for a message about a file that differs from the first image; empty where there is none."""
    if found.shape == expected.shape:
        return "; --fix-affine adopts the first image's affine"
    sizes = expected.canonical().spacing_mm, found.canonical().spacing_mm
    if expected.ndim == found.ndim and not np.allclose(*sizes, rtol=_SAME_SIZE):
        return (
            f"; its voxels are {in_mm(sizes[1])} instead of {in_mm(sizes[0])}: resample it to the first image's grid "
            "(docs/data.md, Grids)"
        )
    return ""


def axis_codes(grid: Grid) -> str:
    """Name the direction of each axis of a 3-D file: right or left, anterior or posterior, superior or inferior.

    ``LPS`` is the order of an axial DICOM series.
    """
    orientation, letters = orientation_to_ras(grid), [""] * 3
    for world, (axis, flip) in enumerate(zip(orientation.axes, orientation.flips, strict=True)):
        letters[axis] = ("LPI" if flip else "RAS")[world]
    return "".join(letters)


def in_mm(spacing_mm: Sequence[float]) -> str:
    """Voxel size as text, ``0.5 x 0.5 x 3 mm``."""
    return " x ".join(f"{one:.4g}" for one in spacing_mm) + " mm"
