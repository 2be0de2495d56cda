"""Reading label files, and taking them onto other grids."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unetpipe.errors import ImageFileError
from unetpipe.evaluation.labels import onto_grid, read_labels, values_in
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid

OBLIQUE = Grid.of(
    (12, 10, 8), nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.2, 0.1) * (1.0, 1.5, 3.0), (5, 6, 7))
)


def test_whole_numbers_in_floats_are_labels(tmp_path: Path) -> None:
    """Label maps saved as float32 are read as integers."""
    labels = np.random.default_rng(0).integers(0, 60, OBLIQUE.shape).astype(np.float32)
    write_image(tmp_path / "a.nii.gz", labels[None], OBLIQUE)
    read, grid = read_labels(tmp_path / "a.nii.gz")
    assert np.issubdtype(read.dtype, np.integer)
    np.testing.assert_array_equal(read, labels)
    assert grid.difference_mm(OBLIQUE) < 1e-3


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf])
def test_what_is_no_label_is_refused(tmp_path: Path, wrong: float) -> None:
    """Probabilities, NaN and infinities are no labels."""
    image = np.ones((1, *OBLIQUE.shape), np.float32)
    image[0, 3, 3, 3] = wrong
    write_image(tmp_path / "a.nii.gz", image, OBLIQUE)
    with pytest.raises(ImageFileError, match=r"a\.nii\.gz.*whole numbers"):
        read_labels(tmp_path / "a.nii.gz")


def test_several_channels_are_refused(tmp_path: Path) -> None:
    """A colour image is no label map."""
    flat = Grid.of((9, 7), np.eye(4))
    write_image(tmp_path / "a.png", np.zeros((3, 9, 7), np.uint8), flat)
    with pytest.raises(ImageFileError, match="one channel, got 3"):
        read_labels(tmp_path / "a.png")


def test_values_in() -> None:
    """Every value but 0, negative and huge ones included."""
    assert values_in(np.array([[0, 3], [-2, 3]])) == {3, -2}
    assert values_in(np.array([0, 1 << 30])) == {1 << 30}


def test_same_grid_is_taken_as_it_is() -> None:
    """Nearest voxel on the same oblique grid changes nothing, also where the axes are turned round."""
    labels = np.random.default_rng(1).integers(0, 5, OBLIQUE.shape)
    np.testing.assert_array_equal(onto_grid(labels, OBLIQUE, OBLIQUE), labels)
    turned = Grid.of(OBLIQUE.shape[::-1], OBLIQUE.matrix[:, [2, 1, 0, 3]])
    np.testing.assert_array_equal(onto_grid(labels, OBLIQUE, turned), labels.transpose())


def test_finer_grid_repeats_voxels_and_outside_is_background() -> None:
    """On a grid twice as fine each voxel is repeated; a grid that reaches further has 0 there."""
    labels = np.random.default_rng(2).integers(1, 5, OBLIQUE.shape)
    fine = onto_grid(labels, OBLIQUE, OBLIQUE.resized((24, 10, 8)))
    np.testing.assert_array_equal(fine, np.repeat(labels, 2, axis=0))
    larger = OBLIQUE.cropped((-2, 0, 0), (12, 10, 8))
    np.testing.assert_array_equal(onto_grid(labels, OBLIQUE, larger), np.pad(labels, ((2, 0), (0, 0), (0, 0))))


def test_two_dimensions() -> None:
    """Flat grids resample too."""
    grid = Grid.of((6, 4), np.diag([1.0, 2.0, 1.0, 1.0]))
    labels = np.arange(24).reshape(6, 4)
    np.testing.assert_array_equal(onto_grid(labels, grid, grid.resized((12, 4))), np.repeat(labels, 2, axis=0))


def test_round_trip_through_label_files(tmp_path: Path) -> None:
    """What `write_labels` writes is read back in the file's own axis order."""
    labels = np.random.default_rng(3).integers(0, 300, OBLIQUE.shape)
    for suffix in (".nii.gz", ".mha", ".nrrd"):
        write_labels(tmp_path / f"a{suffix}", labels, OBLIQUE, {})
        np.testing.assert_array_equal(read_labels(tmp_path / f"a{suffix}")[0], labels)
