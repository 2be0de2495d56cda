"""Volumes as MetaTensors."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, LoadImage, LoadImaged, Orientation, Orientationd
from numpy.typing import NDArray

from unetpipe.errors import GeometryError
from unetpipe.imaging import geometry
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.io import VolumeReader, load_image, load_label


def test_images_come_in_ras_order(
    tmp_path: Path, oriented_grid: Grid, voxels: Callable[[Grid], NDArray[np.int16]]
) -> None:
    """For every axis order: voxels and affine of nibabel's canonical image, and the file's own grid."""
    path = tmp_path / "a.nii.gz"
    write_image(path, voxels(oriented_grid)[None], oriented_grid)
    image, grid = load_image([path])
    theirs = nib.as_closest_canonical(nib.load(path))
    assert image.is_contiguous()
    assert np.array_equal(image[0].numpy(), np.asarray(theirs.dataobj))
    assert np.allclose(image.affine.numpy(), theirs.affine)
    assert grid.shape == oriented_grid.shape
    assert np.allclose(grid.matrix, oriented_grid.matrix, atol=1e-4)


def test_monais_own_transforms_give_the_same(
    tmp_path: Path, oriented_grid: Grid, voxels: Callable[[Grid], NDArray[np.int16]]
) -> None:
    """LoadImage with our reader, then Orientation: what `load_image` returns."""
    path = tmp_path / "a.mha"
    write_image(path, voxels(oriented_grid)[None], oriented_grid)
    ours, _ = load_image([path])
    pipeline = Compose([LoadImage(reader=VolumeReader, image_only=True, ensure_channel_first=True), Orientation("RAS")])
    theirs = pipeline(path)
    assert np.array_equal(theirs.numpy(), ours.numpy())
    assert np.allclose(theirs.affine.numpy(), ours.affine.numpy())


def test_the_reader_works_in_dictionaries(tmp_path: Path, oblique: Grid) -> None:
    """Image of two files and label in one LoadImaged."""
    array = np.arange(np.prod(oblique.shape), dtype=np.int16).reshape(1, *oblique.shape)
    for number in range(2):
        write_image(tmp_path / f"a_{number}.nii.gz", array + number, oblique)
    write_labels(tmp_path / "label.nii.gz", array[0] % 3, oblique, {})
    case = {"image": [tmp_path / "a_0.nii.gz", tmp_path / "a_1.nii.gz"], "label": tmp_path / "label.nii.gz"}
    pipeline = Compose(
        [
            LoadImaged(["image", "label"], reader=VolumeReader, ensure_channel_first=True),
            Orientationd(["image", "label"], "RAS"),
        ]
    )
    result = pipeline(case)
    assert np.array_equal(result["image"].numpy(), load_image(case["image"])[0].numpy())
    assert np.array_equal(result["label"].numpy(), load_label(case["label"])[0].numpy())


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (np.uint8, torch.uint8),
        (np.int16, torch.int16),
        (np.uint16, torch.float32),  # torch hardly computes with it
        (np.int32, torch.float32),
        (np.float32, torch.float32),
        (np.float64, torch.float32),
    ],
)
def test_images_keep_a_smaller_type(tmp_path: Path, oblique: Grid, stored: type, read: torch.dtype) -> None:
    """A CT of int16 does not double in memory; what is larger than float32 becomes that."""
    array = np.random.default_rng(0).integers(0, 120, (1, *oblique.shape)).astype(stored)
    write_image(tmp_path / "a.nii", array, oblique)
    image, _ = load_image([tmp_path / "a.nii"])
    assert image.dtype == read
    assert image.sum() == array.sum()


def test_files_and_a_fourth_axis_are_channels(tmp_path: Path, oblique: Grid) -> None:
    """Two files of one channel equal one file of two."""
    array = np.random.default_rng(0).random((2, *oblique.shape)).astype(np.float32)
    write_image(tmp_path / "both.nii", array, oblique)
    for channel in range(2):
        write_image(tmp_path / f"{channel}.nii", array[channel : channel + 1], oblique)
    both, _ = load_image([tmp_path / "both.nii"])
    apart, _ = load_image([tmp_path / "0.nii", tmp_path / "1.nii"])
    assert torch.equal(both.as_tensor(), apart.as_tensor())
    assert both.shape[0] == 2


def test_channels_must_lie_on_one_grid(tmp_path: Path, oblique: Grid) -> None:
    """A shift of a fifth of a voxel and another shape are refused, a hundredth is not, and the way on is named."""
    array = np.zeros((1, *oblique.shape), np.float32)
    write_image(tmp_path / "a.mha", array, oblique)
    for name, shift in (("near", 0.007), ("far", 0.14)):
        matrix = oblique.matrix.copy()
        matrix[0, 3] += shift
        write_image(tmp_path / f"{name}.mha", array, Grid.of(oblique.shape, matrix))
    write_image(tmp_path / "small.mha", array[:, :4], oblique.cropped((0, 0, 0), (4, *oblique.shape[1:])))
    load_image([tmp_path / "a.mha", tmp_path / "near.mha"])
    with pytest.raises(GeometryError, match=r"file 2 of the image has an origin shifted by 0\.14 mm.*--fix-affine"):
        load_image([tmp_path / "a.mha", tmp_path / "far.mha"])
    load_image([tmp_path / "a.mha", tmp_path / "far.mha"], adopt_affine=True)
    with pytest.raises(GeometryError, match="shape"):
        load_image([tmp_path / "a.mha", tmp_path / "small.mha"], adopt_affine=True)


@pytest.mark.parametrize("degrees", [45, 135])
def test_channels_of_a_tilted_scan_lie_on_each_other(tmp_path: Path, degrees: float) -> None:
    """At 45 degrees, equal channels in NRRD and NIfTI, one of them stored in another axis order, are read as equal."""
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(0, np.radians(degrees), 0)
    grid, order = Grid.of((9, 8, 7), affine), geometry.Orientation(axes=(2, 0, 1), flips=(True, False, False))
    array = np.random.default_rng(0).random(grid.shape).astype(np.float32)
    write_image(tmp_path / "a.nrrd", array[None], grid)
    write_image(tmp_path / "b.nii", array[None], grid)
    write_image(tmp_path / "c.nii", order.to_ras(array)[None], grid.turned(order))
    files = [tmp_path / name for name in ("a.nrrd", "b.nii", "c.nii")]
    channels = load_image(files)[0].as_tensor()
    assert torch.equal(channels[0], channels[1])
    assert torch.equal(channels[0], channels[2])
    read = LoadImage(reader=VolumeReader, image_only=True, ensure_channel_first=True)(files)
    assert torch.equal(read[0], read[2])


def test_pictures_take_the_same_road(tmp_path: Path) -> None:
    """A colour PNG: three channels, two axes, 1 mm."""
    array = np.random.default_rng(0).integers(0, 255, (3, 6, 4)).astype(np.uint8)
    write_image(tmp_path / "a.png", array, Grid.of((6, 4), np.eye(4)))
    image, grid = load_image([tmp_path / "a.png"])
    assert np.array_equal(image.numpy(), array)
    assert grid.spacing_mm == (1, 1)


def test_nothing_of_the_path_travels_with_the_voxels(tmp_path: Path, oblique: Grid) -> None:
    """The metadata hold affine and space, and no file name."""
    write_image(tmp_path / "jane_doe.nii", np.zeros((1, *oblique.shape), np.uint8), oblique)
    image, _ = load_image([tmp_path / "jane_doe.nii"])
    assert "jane_doe" not in str(image.meta)
