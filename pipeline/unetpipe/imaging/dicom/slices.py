"""From the positions of DICOM slices to one regular grid, or the reason why there is none.

Pure geometry, in the LPS coordinates of DICOM until the affine is returned. Each reason starts with a stable word:
MIXED_SIZE, MIXED_SPACING, MIXED_ORIENTATION, DUPLICATE, MISSING_SLICE, NONUNIFORM, TILT.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import GeometryError
from unetpipe.imaging.geometry import Grid

_SAME_DIRECTION = 1e-4  # difference of direction cosines, which files round to 6 digits or so
_SAME_SPACING = 1e-3  # relative
_SAME_PLACE_MM = 1e-3
_ROUNDING_MM = 0.06  # of positions that are written to a tenth of a millimetre
_TILT = 1e-5  # 1 - cosine; a quarter of a degree
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Where one image lies, in the terms and units of DICOM (LPS, mm).

    Attributes:
        shape: (Rows, Columns).
        position: ImagePositionPatient, the centre of the first voxel.
        orientation: ImageOrientationPatient: the direction along a row, then down a column.
        spacing: PixelSpacing: between rows, then between columns.
        thickness: To the next slice, if the file says; only used for a single slice.
    """

    shape: tuple[int, int]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None


def stack(slices: Sequence[Slice]) -> tuple[list[int], Grid]:
    """Order slices along their normal and find their common grid.

    Args:
        slices: Of one series, in any order; at least one.

    Returns:
        Indices into `slices` in the order of axis K, and the grid of (I, J, K) = (column, row, slice) in RAS+.

    Raises:
        GeometryError: If they are no regular stack; its text starts with the reason's word.
    """
    _refuse_mixtures(slices)
    rows, columns = slices[0].shape
    along_row, down_column = np.array(slices[0].orientation, dtype=np.float64).reshape(2, 3)
    if abs(np.linalg.norm(along_row) - 1) > 0.01 or abs(np.linalg.norm(down_column) - 1) > 0.01:
        raise GeometryError(f"direction cosines must have length 1, got {slices[0].orientation}")
    if abs(along_row @ down_column) > 0.01:
        raise GeometryError(f"rows and columns must be perpendicular, got {slices[0].orientation}")
    normal = np.cross(along_row, down_column)
    positions = np.array([one.position for one in slices], dtype=np.float64)
    order = np.argsort(positions @ normal, kind="stable")
    lps = np.eye(4)
    lps[:3, 0] = along_row * slices[0].spacing[1]
    lps[:3, 1] = down_column * slices[0].spacing[0]
    lps[:3, 2] = _step(positions[order], normal, slices[0].thickness)
    lps[:3, 3] = positions[order[0]]
    return order.tolist(), Grid.of((columns, rows, len(slices)), _LPS_TO_RAS @ lps)


def _refuse_mixtures(slices: Sequence[Slice]) -> None:
    first = slices[0]
    if sizes := {one.shape for one in slices} - {first.shape}:
        raise GeometryError(f"MIXED_SIZE: images of {first.shape} and of {sizes.pop()} rows and columns")
    for one in slices:
        if not np.allclose(one.spacing, first.spacing, rtol=_SAME_SPACING, atol=0):
            raise GeometryError(f"MIXED_SPACING: pixels of {first.spacing} and of {one.spacing} mm")
        if not np.allclose(one.orientation, first.orientation, rtol=0, atol=_SAME_DIRECTION):
            raise GeometryError(f"MIXED_ORIENTATION: directions {first.orientation} and {one.orientation}")


def _step(positions: NDArray[np.float64], normal: NDArray[np.float64], thickness: float | None) -> NDArray[np.float64]:
    """From one slice to the next, as a vector; the positions come sorted along the normal."""
    if len(positions) == 1:
        return normal * (thickness or 1.0)
    heights = positions @ normal
    _refuse_duplicates(heights)
    _refuse_holes(heights)
    _refuse_uneven_gaps(heights)
    _refuse_sideways_shifts(positions, normal)
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(positions) - 1)
    return step


def _refuse_duplicates(heights: NDArray[np.float64]) -> None:
    same = np.diff(heights) < _SAME_PLACE_MM
    if same.any():
        places = sorted({round(float(height), 3) for height in heights[1:][same]})
        raise GeometryError(f"DUPLICATE: several images at {_listed(places)} mm along the normal")


def _refuse_holes(heights: NDArray[np.float64]) -> None:
    """A gap of a whole number of slices, while most are one slice, means that some are not there."""
    gaps = np.diff(heights)
    usual = float(np.percentile(gaps, 50, method="lower"))
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if len(wide) and np.allclose(gaps[wide] / usual, np.rint(gaps[wide] / usual), atol=0.1):
        holes = [f"{heights[i]:.3f} to {heights[i + 1]:.3f}" for i in wide]
        raise GeometryError(f"MISSING_SLICE: slices lie {usual:.3f} mm apart, but none from {_listed(holes)} mm")


def _refuse_uneven_gaps(heights: NDArray[np.float64]) -> None:
    gaps, numbers = np.diff(heights), np.arange(len(heights))
    off = np.abs(heights - np.polyval(np.polyfit(numbers, heights, 1), numbers))
    if off.max() > max(0.02 * gaps.mean(), min(_ROUNDING_MM, 0.1 * gaps.mean())):
        worst = int(off.argmax())
        raise GeometryError(
            f"NONUNIFORM: gaps between slices range from {gaps.min():.3f} to {gaps.max():.3f} mm; "
            f"the one at {heights[worst]:.3f} mm is {off[worst]:.3f} mm from its even place"
        )


def _refuse_sideways_shifts(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    way, gap = positions[-1] - positions[0], float(np.diff(positions @ normal).mean())
    rounding = min(3 * _ROUNDING_MM, 0.25 * gap)  # two ends, two axes
    cosine = float(way @ normal / np.linalg.norm(way))
    if 1 - cosine > _TILT and np.linalg.norm(way - (way @ normal) * normal) > rounding:
        angle = np.degrees(np.arccos(cosine))
        raise GeometryError(f"TILT: slices shift sideways; the stack leans {angle:.2f} degrees from their normal")
    off = positions - np.linspace(positions[0], positions[-1], len(positions))
    sideways = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1)
    if sideways.max() > max(0.1 * gap, rounding):
        worst = int(sideways.argmax())
        place = f"{positions[worst] @ normal:.3f} mm"
        raise GeometryError(f"NONUNIFORM: the slice at {place} is shifted sideways by {sideways[worst]:.3f} mm")


def _listed(items: Sequence[object]) -> str:
    shown = ", ".join(map(str, items[:5]))
    return f"{shown} and {len(items) - 5} more" if len(items) > 5 else shown
