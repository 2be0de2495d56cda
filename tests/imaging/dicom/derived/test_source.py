"""The way back from a mended volume to the slices that are there."""

from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataset import Dataset

from unetpipe.errors import GeometryError
from unetpipe.imaging.dicom.derived.source import read_source
from unetpipe.imaging.dicom.options import DicomOptions

GRADIENT = np.array([0.6, -0.5, 0.4])  # per mm


def moved(vector: int, mm: Callable[[int], float]) -> Callable[[Dataset], None]:
    """Move slices by mm of their number, along rows (0), columns (1) or the normal (2)."""

    def move(image: Dataset) -> None:
        row, column = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
        by = (row, column, np.cross(row, column))[vector] * mm(image.InstanceNumber)
        image.ImagePositionPatient = [round(a + b, 6) for a, b in zip(image.ImagePositionPatient, by, strict=True)]

    return move


@pytest.mark.parametrize(
    ("fault", "absent"),
    [
        (moved(1, lambda n: 0.8 * n), None),
        (moved(0, lambda n: -0.5 * n), None),
        (moved(2, lambda n: 1.0 if n == 3 else 0.0), None),
        (moved(1, lambda n: 0.8 * n), 2),
    ],
    ids=["tilt along columns", "tilt along rows", "uneven", "tilt and gap"],
)
def test_labels_of_a_mended_volume_lie_where_they_lay(series, fault: Callable[[Dataset], None], absent: int) -> None:
    """A voxel of a slice gets the label at its own place in the patient, to half a voxel along each axis."""
    series.edit(fault)
    if absent is not None:
        series.file(absent).unlink()
    source = read_source([series.path], [DicomOptions(fix_geometry=True)])
    assert source.mended
    voxels = np.moveaxis(np.indices(source.grid.shape), 0, -1)
    places = voxels @ source.grid.matrix[:3, :3].T + source.grid.matrix[:3, 3]
    half_a_voxel = 0.5 * np.abs((GRADIENT * (-1, -1, 1)) @ source.grid.matrix[:3, :3]).sum()
    restored = source.on_slices(np.rint(100 * places @ (GRADIENT * (-1, -1, 1))))
    for plane, labels in zip(source.planes, restored, strict=True):
        assert labels.shape == plane.shape
        rows, columns = np.indices(plane.shape)
        along_row, down_column = plane.directions
        own = np.array(plane.position) + columns[..., None] * plane.spacing[1] * along_row
        own = own + rows[..., None] * plane.spacing[0] * down_column
        assert np.abs(labels / 100 - own @ GRADIENT).max() < half_a_voxel + 0.01


def test_labels_of_another_shape_are_refused(series) -> None:
    """Nothing is cut or padded."""
    with pytest.raises(GeometryError, match=r"labels of shape \(9, 8, 5\) do not fit a series of shape \(9, 8, 6\)"):
        read_source([series.path]).on_slices(np.zeros((9, 8, 5)))
