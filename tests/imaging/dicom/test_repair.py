"""Faults of the geometry, mended where that is asked for: a linear image is reproduced exactly."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy.ndimage import binary_erosion

from unetpipe.errors import GeometryError
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.files import read_grid, read_volume

FIX = DicomOptions(fix_geometry=True)
GRADIENT = np.array([3.0, -2.0, 1.5])


def linear(image: Dataset) -> None:
    """Voxels of a slice become a linear function of where they lie (LPS, mm), in hundredths."""
    row, column = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
    i, j = np.meshgrid(np.arange(image.Columns), np.arange(image.Rows))
    down, across = map(float, image.PixelSpacing)
    place = (
        np.array(image.ImagePositionPatient, dtype=float) + i[..., None] * across * row + j[..., None] * down * column
    )
    image.RescaleSlope = 0.1
    image.PixelData = np.rint(10 * place @ GRADIENT).astype(np.int16).tobytes()


def expected(shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """That function at the voxels of a grid in RAS+."""
    voxels = np.moveaxis(np.indices((*shape, 1)), 0, -1).reshape(-1, 4)
    voxels[:, 3] = 1
    return ((voxels @ affine.T)[:, :3] * (-1, -1, 1) @ GRADIENT).reshape(shape)


def along(vector: int, mm: Callable[[int], float]) -> Callable[[Dataset], None]:
    """Move slices by mm of their number, along rows (0), columns (1) or the normal (2)."""

    def move(image: Dataset) -> None:
        row, column = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
        by = (row, column, np.cross(row, column))[vector] * mm(image.InstanceNumber)
        image.ImagePositionPatient = [round(a + b, 6) for a, b in zip(image.ImagePositionPatient, by, strict=True)]

    return move


FAULTS = {
    "missing": ([], [2], ["MISSING_SLICE"], 6),
    "missing twice": ([], [1, 3], ["NONUNIFORM"], 6),
    "uneven": ([along(2, lambda n: 1.5 if n == 3 else 0.0)], [], ["NONUNIFORM"], 13),
    "tilt along columns": ([along(1, lambda n: 0.8 * n)], [], ["TILT"], 6),
    "tilt along rows": ([along(0, lambda n: -0.5 * n)], [], ["TILT"], 6),
    "tilt and gap": ([along(1, lambda n: 0.8 * n)], [2], ["MISSING_SLICE", "TILT"], 6),
    "one slice sideways": ([along(0, lambda n: 1.0 if n == 3 else 0.0)], [], ["NONUNIFORM"], 6),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_mended_where_that_is_asked_for(series, fault: str) -> None:
    """Else the series is refused and every fault is named; a linear image comes out as it was, and notes say why."""
    moves, removed, words, count = FAULTS[fault]
    for move in moves:
        series.edit(move)
    series.edit(linear)
    for number in removed:
        series.file(number).unlink()
    with pytest.raises(GeometryError, match="; ".join(f"{word}: [^;]*" for word in words)):
        read_grid(series.path)
    volume = read_volume(series.path, FIX)
    assert volume.grid == read_grid(series.path, FIX)[1]
    assert abs(volume.grid.shape[2] - count) <= 1
    direction = volume.grid.matrix[:3, :3] / volume.grid.spacing_mm
    assert np.allclose(direction.T @ direction, np.eye(3), atol=1e-6)
    known = binary_erosion(volume.array[0] > volume.array.min() + 0.01, np.ones((3, 3, 3)), border_value=1)
    difference = np.abs(volume.array[0] - expected(volume.grid.shape, volume.grid.matrix))
    assert known.mean() > 0.4
    assert difference[known].max() < 0.1
    assert all(any(word in note for note in volume.notes) for word in words)


def test_a_regular_series_is_left_as_it_is(series) -> None:
    """Nothing is interpolated where nothing is wrong."""
    plain, fixed = read_volume(series.path), read_volume(series.path, FIX)
    assert fixed.array.dtype == plain.array.dtype
    assert np.array_equal(fixed.array, plain.array)
    assert fixed.notes == ()


def test_two_slices_at_one_place_cannot_be_mended(series) -> None:
    """Which of them is right, nothing says."""
    series.add_copies(lambda image: image.update({}))
    with pytest.raises(GeometryError, match="DUPLICATE"):
        read_grid(series.path, FIX)


def test_gaps_that_tell_nothing_are_refused(series) -> None:
    """Two slices of six that nearly touch would make hundreds."""
    series.edit(along(2, lambda n: 2.48 if n == 3 else 0.0))
    with pytest.raises(GeometryError, match=r"MISSING_SLICE: .*gaps differ too much to be mended"):
        read_grid(series.path, FIX)
