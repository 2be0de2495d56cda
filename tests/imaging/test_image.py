"""Images in RAS+ order, as views of what was read."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage
from numpy.typing import NDArray

from unetpipe.errors import GeometryError
from unetpipe.imaging.files import write_image
from unetpipe.imaging.geometry import Grid, Orientation
from unetpipe.imaging.image import Image, read_image
from unetpipe.imaging.monai import VolumeReader


def test_images_come_in_ras_order(
    tmp_path: Path, oriented_grid: Grid, voxels: Callable[[Grid], NDArray[np.int16]]
) -> None:
    """For every axis order: voxels and affine of nibabel's canonical image, the file's type and its own grid."""
    path = tmp_path / "a.nii.gz"
    write_image(path, voxels(oriented_grid)[None], oriented_grid)
    image = read_image([path])
    theirs = nib.as_closest_canonical(nib.load(path))
    assert image.channels[0].dtype == np.int16
    assert np.array_equal(image.channels[0], np.asarray(theirs.dataobj))
    assert np.allclose(image.grid.matrix, theirs.affine)
    assert image.source.shape == oriented_grid.shape
    assert np.allclose(image.source.matrix, oriented_grid.matrix, atol=1e-4)


def test_turning_copies_nothing(oriented_grid: Grid) -> None:
    """Channels are views of the array that was given."""
    array = np.zeros((2, *oriented_grid.shape), np.uint8)
    image = Image.of(array, oriented_grid)
    assert len(image.channels) == 2
    assert all(np.shares_memory(channel, array) for channel in image.channels)
    with pytest.raises(GeometryError, match="does not fit a grid"):
        Image.of(array[:, 1:], oriented_grid)


def test_files_and_a_fourth_axis_are_channels(tmp_path: Path, oblique: Grid) -> None:
    """Two files of one channel equal one file of two."""
    array = np.random.default_rng(0).random((2, *oblique.shape)).astype(np.float32)
    write_image(tmp_path / "both.nii", array, oblique)
    for channel in range(2):
        write_image(tmp_path / f"{channel}.nii", array[channel : channel + 1], oblique)
    both, apart = read_image([tmp_path / "both.nii"]), read_image([tmp_path / "0.nii", tmp_path / "1.nii"])
    assert len(both.channels) == len(apart.channels) == 2
    for ours, theirs in zip(both.channels, apart.channels, strict=True):
        assert np.array_equal(ours, theirs)


def test_channels_must_lie_on_one_grid(tmp_path: Path, oblique: Grid) -> None:
    """A shift of a fifth of a voxel and another shape are refused, a hundredth is not, and the way on is named."""
    array = np.zeros((1, *oblique.shape), np.float32)
    write_image(tmp_path / "a.mha", array, oblique)
    for name, shift in (("near", 0.007), ("far", 0.14)):
        matrix = oblique.matrix.copy()
        matrix[0, 3] += shift
        write_image(tmp_path / f"{name}.mha", array, Grid.of(oblique.shape, matrix))
    write_image(tmp_path / "small.mha", array[:, :4], oblique.cropped((0, 0, 0), (4, *oblique.shape[1:])))
    read_image([tmp_path / "a.mha", tmp_path / "near.mha"])
    with pytest.raises(GeometryError, match=r"file 2 of the image has an origin shifted by 0\.14 mm.*--fix-affine"):
        read_image([tmp_path / "a.mha", tmp_path / "far.mha"])
    read_image([tmp_path / "a.mha", tmp_path / "far.mha"], adopt_affine=True)
    with pytest.raises(GeometryError, match="shape"):
        read_image([tmp_path / "a.mha", tmp_path / "small.mha"], adopt_affine=True)


@pytest.mark.parametrize("degrees", [45, 135])
def test_channels_of_a_tilted_scan_lie_on_each_other(tmp_path: Path, degrees: float) -> None:
    """At 45 degrees, equal channels in NRRD and NIfTI, one of them stored in another axis order, are read as equal."""
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(0, np.radians(degrees), 0)
    grid, order = Grid.of((9, 8, 7), affine), Orientation(axes=(2, 0, 1), flips=(True, False, False))
    array = np.random.default_rng(0).random(grid.shape).astype(np.float32)
    write_image(tmp_path / "a.nrrd", array[None], grid)
    write_image(tmp_path / "b.nii", array[None], grid)
    write_image(tmp_path / "c.nii", order.to_ras(array)[None], grid.turned(order))
    files = [tmp_path / name for name in ("a.nrrd", "b.nii", "c.nii")]
    channels = read_image(files).channels
    assert np.array_equal(channels[0], channels[1])
    assert np.array_equal(channels[0], channels[2])
    read = LoadImage(reader=VolumeReader, image_only=True, ensure_channel_first=True)(files)
    assert np.array_equal(read[0], read[2])


def test_pictures_take_the_same_road(tmp_path: Path) -> None:
    """A colour PNG: three channels, two axes, 1 mm."""
    array = np.random.default_rng(0).integers(0, 255, (3, 6, 4)).astype(np.uint8)
    write_image(tmp_path / "a.png", array, Grid.of((6, 4), np.eye(4)))
    image = read_image([tmp_path / "a.png"])
    assert np.array_equal(np.stack(image.channels), array)
    assert image.source.spacing_mm == (1, 1)
