"""Reading label files, and taking them onto other grids."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unetpipe.dataset.merging import MergedValues
from unetpipe.errors import ImageFileError
from unetpipe.evaluation.inputs import Inputs
from unetpipe.evaluation.labels import onto_grid, read_prediction, read_reference, reference_grid, values_in
from unetpipe.imaging.alignment import same_voxels
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid

OBLIQUE = Grid.of(
    (12, 10, 8), nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.2, 0.1) * (1.0, 1.5, 3.0), (5, 6, 7))
)


@pytest.fixture
def inputs() -> Callable[..., Inputs]:
    """One reference `a` and what an evaluation knows about it."""

    def make(reference: Path, **more: object) -> Inputs:
        known = {"dataset": None, "models": (), "classes": {}, "ignore_value": None, "patients": {}, "images": {}}
        return Inputs(references={"a": reference}, names_patients=False, **{**known, **more})  # type: ignore[arg-type]

    return make


def test_whole_numbers_in_floats_are_labels(tmp_path: Path, inputs: Callable[..., Inputs]) -> None:
    """Label maps saved as float32 are read as integers."""
    labels = np.random.default_rng(0).integers(0, 60, OBLIQUE.shape).astype(np.float32)
    write_image(tmp_path / "a.nii.gz", labels[None], OBLIQUE)
    read = read_reference("a", inputs(tmp_path / "a.nii.gz"))
    assert np.issubdtype(read.array.dtype, np.integer)
    np.testing.assert_array_equal(read.array[0], labels)
    assert read.grid.difference_mm(OBLIQUE) < 1e-3


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf])
def test_what_is_no_label_is_refused(tmp_path: Path, wrong: float, inputs: Callable[..., Inputs]) -> None:
    """Probabilities, NaN and infinities are no labels, in references and predictions."""
    image = np.ones((1, *OBLIQUE.shape), np.float32)
    image[0, 3, 3, 3] = wrong
    path = tmp_path / "a.nii.gz"
    write_image(path, image, OBLIQUE)
    with pytest.raises(ImageFileError, match=r"a\.nii\.gz.*whole numbers"):
        read_reference("a", inputs(path))
    with pytest.raises(ImageFileError, match=r"a\.nii\.gz.*whole numbers"):
        read_prediction(path, OBLIQUE, inputs(path))


def test_values_that_are_merged(tmp_path: Path, inputs: Callable[..., Inputs]) -> None:
    """References and predictions get the class's value, also where they lie on different grids."""
    labels = np.random.default_rng(0).integers(120, 140, OBLIQUE.shape).astype(np.uint8)
    path = tmp_path / "a.nii.gz"
    write_labels(path, labels, OBLIQUE, {})
    known = inputs(path, merged=(MergedValues(low=126, high=130, value=127),))
    expected = np.where((labels >= 126) & (labels <= 130), 127, labels)
    np.testing.assert_array_equal(read_reference("a", known).array[0], expected)
    fine = read_prediction(path, OBLIQUE.resized((24, 10, 8)), known)
    np.testing.assert_array_equal(fine.array[0], np.repeat(expected, 2, axis=0))


def test_an_adopted_affine_is_the_images(tmp_path: Path, inputs: Callable[..., Inputs]) -> None:
    """A reference that took its image's place when it was preprocessed lies there for its predictions too."""
    labels = np.random.default_rng(0).integers(0, 5, OBLIQUE.shape).astype(np.uint8)
    write_image(tmp_path / "scan.nii.gz", labels[None].astype(np.float32), OBLIQUE)
    write_labels(tmp_path / "reference.nii.gz", labels, Grid.of(OBLIQUE.shape, np.eye(4)), {})
    write_labels(tmp_path / "prediction.nii.gz", labels, OBLIQUE, {})
    known = inputs(tmp_path / "reference.nii.gz", adopted={"a": tmp_path / "scan.nii.gz"})
    read = read_reference("a", known)
    assert read.grid == reference_grid("a", known)
    assert same_voxels(read.grid, OBLIQUE)
    found = read_prediction(tmp_path / "prediction.nii.gz", read.grid, known)
    np.testing.assert_array_equal(found.array, read.array)


def test_values_in() -> None:
    """Every value but 0, negative and huge ones included."""
    assert values_in(np.array([[0, 3], [-2, 3]])) == {3, -2}
    assert values_in(np.array([0, 1 << 30])) == {1 << 30}


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64])
def test_values_that_lie_far_apart_for_their_type(kind: type) -> None:
    """Differences between label values do not wrap round in the type of the file."""
    low, high = (-128, 127) if kind is np.int8 else (-32768, 32767)
    assert values_in(np.array([[low, 0], [high, -1]], kind)) == {low, high, -1}


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


def test_round_trip_through_label_files(tmp_path: Path, inputs: Callable[..., Inputs]) -> None:
    """What `write_labels` writes is read back in the file's own axis order."""
    labels = np.random.default_rng(3).integers(0, 300, OBLIQUE.shape)
    for suffix in (".nii.gz", ".mha", ".nrrd"):
        write_labels(tmp_path / f"a{suffix}", labels, OBLIQUE, {})
        np.testing.assert_array_equal(read_reference("a", inputs(tmp_path / f"a{suffix}")).array[0], labels)
