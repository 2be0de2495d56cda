"""From the positions of DICOM slices to one regular grid, or the reasons why there is none.

Pure geometry, in the LPS coordinates of DICOM until the affine is returned. Each reason starts with a stable word:
MIXED_SIZE, MIXED_SPACING, MIXED_ORIENTATION, DUPLICATE, MISSING_SLICE, NONUNIFORM, TILT.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import GeometryError, listed
from unetpipe.imaging.geometry import Grid

SAME_PLACE_MM = 1e-3
"""Slices closer than this along their normal lie at one place."""
_SAME_DIRECTION = 1e-4  # difference of direction cosines, which files round to 6 digits or so
_SAME_SPACING = 1e-3  # relative
_UNIT_LENGTH = 5e-3  # how far cosines that are written with two digits can be from length 1
_PERPENDICULAR = 0.01
_ROUNDING_MM = 0.06  # of positions that are written to a tenth of a millimetre
_TILT = 1e-5  # 1 - cosine; a quarter of a degree
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The position of one image, in the terms and units of DICOM (LPS, mm).

    Attributes:
        shape: Rows and Columns.
        position: ImagePositionPatient, the centre of the first voxel.
        orientation: ImageOrientationPatient: the direction along a row, then down a column.
        spacing: PixelSpacing: between rows, then between columns.
        thickness: SliceThickness, if the file says.
        gap: SpacingBetweenSlices, if the file says.
    """

    shape: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None = None
    gap: float | None = None

    @property
    def directions(self) -> NDArray[np.float64]:
        """Unit vectors along a row and down a column, shape (2, 3).

        Raises:
            GeometryError: If the cosines are not of length 1 to within rounding, or not perpendicular.
        """
        return _directions(self.orientation)

    @property
    def normal(self) -> NDArray[np.float64]:
        """The unit vector along which slices of this orientation are stacked."""
        normal: NDArray[np.float64] = np.cross(*self.directions)
        return normal / np.linalg.norm(normal)

    def is_parallel(self, other: "Slice") -> bool:
        """Whether rows and columns run the same way."""
        same = self.orientation == other.orientation  # as nearly all are, at a fraction of the time
        return same or np.allclose(self.orientation, other.orientation, rtol=0, atol=_SAME_DIRECTION)

    def same_pixels(self, other: "Slice") -> bool:
        """Whether pixels have the same size in mm."""
        same = self.spacing == other.spacing
        return same or np.allclose(self.spacing, other.spacing, rtol=_SAME_SPACING, atol=0)

    def same_plane(self, other: "Slice") -> bool:
        """Whether both can be slices of one stack: equal shape, pixel size and orientation."""
        return self.shape == other.shape and self.same_pixels(other) and self.is_parallel(other)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Parallel slices in the order in which they lie along their normal.

    Attributes:
        order: Indices into the slices that it was made of.
        positions: Position of each slice in that order, LPS mm, shape (n, 3).
        plane: A slice of the stack; all are alike but for their positions.
    """

    order: tuple[int, ...]
    positions: NDArray[np.float64]
    plane: Slice

    @property
    def heights(self) -> NDArray[np.float64]:
        """Position of each slice along the normal, in mm; ascending."""
        heights: NDArray[np.float64] = self.positions @ self.plane.normal
        return heights

    def faults(self) -> list[str]:
        """Why the slices are no regular grid, each fault starting with its word; empty where they are one."""
        if len(self.positions) == 1:
            return []
        heights, normal = self.heights, self.plane.normal
        if duplicate := _duplicates(heights):
            return [duplicate]
        along = _holes(heights) or _uneven_gaps(heights)
        across = _tilt(self.positions, normal) or ("" if along else _sideways_shift(self.positions, normal))
        return [fault for fault in (along, across) if fault]

    def grid(self) -> Grid:
        """The grid of (I, J, K) = (column, row, slice) in RAS+.

        Raises:
            GeometryError: If there are `faults`; names all of them.
        """
        if faults := self.faults():
            raise GeometryError("; ".join(faults))
        if len(self.positions) == 1:
            step = self.plane.normal * (self.plane.gap or self.plane.thickness or 1.0)
        else:
            step = (self.positions[-1] - self.positions[0]) / (len(self.positions) - 1)
        return grid_of(self.plane, self.positions[0], step, len(self.positions))


def stack(slices: Sequence[Slice]) -> Stack:
    """Order slices along their normal.

    Args:
        slices: Slices of one series, in any order; at least one.

    Raises:
        GeometryError: If they differ in size, pixel size or orientation, or their directions cannot be used.
    """
    if mixture := mixture_of(slices):
        raise GeometryError(mixture)
    positions = np.array([one.position for one in slices], dtype=np.float64)
    order = np.argsort(positions @ slices[0].normal, kind="stable")
    return Stack(order=tuple(order.tolist()), positions=positions[order], plane=slices[0])


def grid_of(
    plane: Slice,
    first: NDArray[np.float64],
    step: NDArray[np.float64],
    count: int,
    shape: tuple[int, int] | None = None,
) -> Grid:
    """The grid of evenly stacked slices.

    Args:
        plane: Slice whose orientation and pixel size are taken.
        first: Position of the first slice, LPS mm.
        step: Vector from one slice to the next, LPS mm.
        count: Number of slices.
        shape: (Rows, Columns), if not the plane's.
    """
    rows, columns = shape or plane.shape
    along_row, down_column = plane.directions
    lps = np.eye(4)
    lps[:3, 0] = along_row * plane.spacing[1]
    lps[:3, 1] = down_column * plane.spacing[0]
    lps[:3, 2] = step
    lps[:3, 3] = first
    return Grid.of((columns, rows, count), _LPS_TO_RAS @ lps)


@lru_cache(maxsize=256)
def _directions(orientation: tuple[float, ...]) -> NDArray[np.float64]:
    vectors = np.array(orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.linalg.norm(vectors, axis=1)
    if np.abs(lengths - 1).max() > _UNIT_LENGTH:
        raise GeometryError(f"direction cosines must have length 1, got {orientation}")
    vectors /= lengths[:, None]
    if abs(vectors[0] @ vectors[1]) > _PERPENDICULAR:
        raise GeometryError(f"rows and columns must be perpendicular, got {orientation}")
    vectors.setflags(write=False)
    return vectors


def mixture_of(slices: Sequence[Slice]) -> str:
    """The reason why slices cannot belong to one stack; empty where they can."""
    first = slices[0]
    for one in slices:
        if one.shape != first.shape:
            return f"MIXED_SIZE: images of {first.shape} and of {one.shape} rows and columns"
        if not one.same_pixels(first):
            return f"MIXED_SPACING: pixels of {first.spacing} and of {one.spacing} mm"
        if not one.is_parallel(first):
            return f"MIXED_ORIENTATION: directions {first.orientation} and {one.orientation}"
    return ""


def _duplicates(heights: NDArray[np.float64]) -> str:
    same = np.diff(heights) < SAME_PLACE_MM
    if not same.any():
        return ""
    places = sorted({round(float(height), 3) for height in heights[1:][same]})
    return f"DUPLICATE: several images at {listed(places, most=5)} mm along the normal"


def _holes(heights: NDArray[np.float64]) -> str:
    """Find missing slices: a gap of a whole number of slices, while most gaps are of one."""
    gaps = np.diff(heights)
    usual = float(np.percentile(gaps, 50, method="lower"))
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if not len(wide) or not np.allclose(gaps[wide] / usual, np.rint(gaps[wide] / usual), atol=0.1):
        return ""
    holes = [f"{heights[i]:.3f} to {heights[i + 1]:.3f}" for i in wide]
    return f"MISSING_SLICE: slices lie {usual:.3f} mm apart, but none from {listed(holes, most=5)} mm"


def _uneven_gaps(heights: NDArray[np.float64]) -> str:
    gaps, numbers = np.diff(heights), np.arange(len(heights))
    off = np.abs(heights - np.polyval(np.polyfit(numbers, heights, 1), numbers))
    if off.max() <= max(0.02 * gaps.mean(), min(_ROUNDING_MM, 0.1 * gaps.mean())):
        return ""
    worst = int(off.argmax())
    return (
        f"NONUNIFORM: gaps between slices range from {gaps.min():.3f} to {gaps.max():.3f} mm; "
        f"the one at {heights[worst]:.3f} mm is {off[worst]:.3f} mm from its even place"
    )


def _tilt(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> str:
    way = positions[-1] - positions[0]
    cosine = float(way @ normal / np.linalg.norm(way))
    if 1 - cosine <= _TILT or np.linalg.norm(way - (way @ normal) * normal) <= _sideways_rounding(positions, normal):
        return ""
    angle = np.degrees(np.arccos(cosine))
    return f"TILT: slices shift sideways; the stack leans {angle:.2f} degrees from their normal"


def _sideways_shift(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> str:
    off = positions - np.linspace(positions[0], positions[-1], len(positions))
    sideways = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1)
    gap = float(np.diff(positions @ normal).mean())
    if sideways.max() <= max(0.1 * gap, _sideways_rounding(positions, normal)):
        return ""
    worst = int(sideways.argmax())
    place = f"{positions[worst] @ normal:.3f} mm"
    return f"NONUNIFORM: the slice at {place} is shifted sideways by {sideways[worst]:.3f} mm"


def _sideways_rounding(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    """What rounded positions may be off sideways: two ends, two axes; less where slices are thin."""
    return min(3 * _ROUNDING_MM, 0.25 * float(np.diff(positions @ normal).mean()))
