"""Positions of slices: one grid, or a reason."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from unetpipe.errors import GeometryError
from unetpipe.imaging.dicom.slices import Slice, stack

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def series(heights: list[float], **changes: object) -> list[Slice]:
    """Axial slices at the given heights in mm, of 4 rows and 3 columns of 0.7 x 0.5 mm."""
    plain = Slice(shape=(4, 3), position=(0, 0, 0), orientation=AXIAL, spacing=(0.7, 0.5), thickness=2.0)
    return [replace(plain, **{"position": (10.0, 20.0, height), **changes}) for height in heights]


def test_slices_are_sorted_along_the_normal() -> None:
    """The order is that of the heights, the grid starts at the lowest and runs up in even steps."""
    slices = stack(series([4.0, 0.0, 2.0, 6.0]))
    grid = slices.grid()
    assert slices.order == (1, 2, 0, 3)
    assert grid.shape == (3, 4, 4)
    assert np.allclose(grid.matrix, [[-0.5, 0, 0, -10], [0, -0.7, 0, -20], [0, 0, 2, 0], [0, 0, 0, 1]])


def test_one_slice_is_as_thick_as_it_says() -> None:
    """Without a neighbour the slice's own thickness is the spacing, or 1 mm."""
    assert stack(series([3.0])).grid().spacing_mm == pytest.approx((0.5, 0.7, 2.0))
    assert stack(series([3.0], thickness=None)).grid().spacing_mm == pytest.approx((0.5, 0.7, 1.0))


@pytest.mark.parametrize(
    ("orientation", "normal"),
    [
        (AXIAL, (0, 0, 1)),
        ((0, 1, 0, 0, 0, -1), (-1, 0, 0)),
        ((1, 0, 0, 0, 0, -1), (0, 1, 0)),
        ((0.8, 0.6, 0, -0.36, 0.48, -0.8), (-0.48, 0.64, 0.6)),
    ],
    ids=["axial", "sagittal", "coronal", "oblique"],
)
def test_any_plane_is_a_grid(orientation: tuple[float, ...], normal: tuple[float, ...]) -> None:
    """Whatever the plane, voxel (i, j, k) lies at position + i * row + j * column + k * step (LPS)."""
    corner = np.array([5.0, -7.0, 11.0])
    slices = [
        replace(one, position=tuple(corner + 1.5 * k * np.array(normal)), orientation=orientation)
        for k, one in enumerate(series([0.0] * 5))
    ]
    ordered = stack(slices[::-1])
    grid = ordered.grid()
    assert ordered.order == (4, 3, 2, 1, 0)
    place = corner + 2 * 0.5 * np.array(orientation[:3]) + 3 * 0.7 * np.array(orientation[3:]) + 6 * np.array(normal)
    assert np.allclose((grid.matrix @ (2, 3, 4, 1))[:3], place * (-1, -1, 1))


def changed(index: int, **changes: object) -> Callable[[list[Slice]], list[Slice]]:
    """A fault that sits in one slice."""
    return lambda slices: [replace(one, **changes) if i == index else one for i, one in enumerate(slices)]


def tilted(slices: list[Slice]) -> list[Slice]:
    """Each slice 0.1 mm further to the front: 2.9 degrees."""
    return [replace(one, position=(10.0, 20.0 + 0.1 * i, one.position[2])) for i, one in enumerate(slices)]


@pytest.mark.parametrize(
    ("heights", "fault", "reason"),
    [
        ([0, 2, 4, 8, 10], None, "MISSING_SLICE: slices lie 2.000 mm apart, but none from 4.000 to 8.000"),
        ([0, 1, 3], None, "MISSING_SLICE"),
        ([0, 2, 4, 6, 14, 16, 20], None, "none from 6.000 to 14.000, 16.000 to 20.000"),
        ([0, 2, 2, 4], None, "DUPLICATE: several images at 2.0 mm"),
        ([0, 0, 2, 2, 4, 4], None, "DUPLICATE"),
        ([0, 2, 4, 7, 10, 13], None, "NONUNIFORM: gaps between slices range from 2.000 to 3.000 mm"),
        ([0, 2, 4.3, 6, 8], None, "NONUNIFORM.*the one at 4.300 mm is 0.240 mm"),
        ([0, 2, 4, 6], tilted, "TILT: .*leans 2.86 degrees"),
        ([0, 2, 4, 6], changed(1, position=(10.0, 20.5, 2)), "NONUNIFORM: the slice at 2.000 mm is shifted sideways"),
        ([0, 2, 4], changed(1, orientation=(1, 0, 0, 0, 0.9998, 0.02)), "MIXED_ORIENTATION"),
        ([0, 2, 4], changed(2, shape=(4, 5)), "MIXED_SIZE"),
        ([0, 2, 4], changed(0, spacing=(0.7, 0.6)), "MIXED_SPACING"),
        ([0, 2, 4], lambda s: [replace(o, orientation=(1, 0, 0, 1, 0, 0)) for o in s], "perpendicular"),
        ([0, 2, 4], lambda s: [replace(o, orientation=(0,) * 6) for o in s], "length 1"),
    ],
)
def test_what_is_no_regular_stack_is_named(
    heights: list[float], fault: Callable[[list[Slice]], list[Slice]] | None, reason: str
) -> None:
    """Each kind has its word, with figures to look at."""
    slices = series(heights)
    with pytest.raises(GeometryError, match=reason):
        stack(fault(slices) if fault else slices).grid()


def test_rounded_positions_are_even() -> None:
    """Slices of 0.625 mm whose positions were written to a tenth of a millimetre are no fault."""
    heights = [round(0.625 * i, 1) for i in range(200)]
    grid = stack(series(heights)).grid()
    assert grid.spacing_mm[2] == pytest.approx(0.625, abs=1e-3)


def test_a_hair_of_tilt_is_kept_in_the_affine() -> None:
    """A tenth of a degree is no fault, and the last slice lies where its file says, not on the normal."""
    slices = [replace(one, position=(10.0, 20.0 + 0.003 * i, 2.0 * i)) for i, one in enumerate(series([0.0] * 50))]
    grid = stack(slices).grid()
    assert np.allclose((grid.matrix @ (0, 0, 49, 1))[:3], (-10, -20.147, 98))
