"""Label maps: whole numbers from any file, and values turned into class indices."""

from pathlib import Path

import numpy as np
import pytest

from unetpipe.errors import ImageFileError
from unetpipe.imaging.files import write_image
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_volume, renumbered, whole_numbers


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64, np.float32])
def test_labels_are_integers_whatever_the_file_holds(tmp_path: Path, oblique: Grid, kind: type) -> None:
    """Whole numbers in any stored type come out as integers, and integer types stay as they are."""
    labels = np.random.default_rng(0).integers(0, 120, oblique.shape)
    write_image(tmp_path / "a.nrrd", labels[None].astype(kind), oblique)
    volume = read_label_volume(tmp_path / "a.nrrd")
    assert volume.array.dtype == (np.int32 if kind is np.float32 else kind)
    assert np.array_equal(volume.array[0], labels)
    assert volume.grid.shape == oblique.shape


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 3e9])
def test_a_label_that_is_no_whole_number_is_refused(tmp_path: Path, oblique: Grid, value: float) -> None:
    """Fractions, NaN, infinity and numbers beyond 32 bits name the file and the value."""
    labels = np.zeros((1, *oblique.shape), np.float32)
    labels[0, 1, 2, 3] = value
    write_image(tmp_path / "a.nii", labels, oblique)
    with pytest.raises(ImageFileError, match=r"a\.nii: label values must be whole numbers, got"):
        read_label_volume(tmp_path / "a.nii")


def test_a_label_has_one_channel(tmp_path: Path, oblique: Grid) -> None:
    """Probabilities or a colour picture are no label map."""
    array = np.zeros((3, *oblique.shape), np.uint8)
    array[2, 1, 2, 3] = 1
    write_image(tmp_path / "a.nii", array, oblique)
    with pytest.raises(ImageFileError, match="one channel, got 3; save the class of each voxel as one number"):
        read_label_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".mha"])
def test_a_label_of_equal_channels_has_one(tmp_path: Path, suffix: str) -> None:
    """Programs for painting save a grey mask as red, green and blue; a note says that one was taken."""
    labels = np.random.default_rng(0).integers(0, 4, (5, 7)).astype(np.uint8)
    write_image(tmp_path / f"a{suffix}", np.stack([labels] * 3), Grid.of((5, 7), np.eye(4)))
    volume = read_label_volume(tmp_path / f"a{suffix}")
    assert np.array_equal(volume.array, labels[None])
    assert volume.notes == ("the 3 channels of the label are equal; one is taken",)


def test_integers_are_not_copied() -> None:
    """An integer array comes back as itself."""
    array = np.arange(5, dtype=np.uint16)
    assert whole_numbers(array) is array


@pytest.mark.parametrize("values", [[0, 1, 2], [-3, 0, 300], [7], [0, 2_000_000_000, -5], list(range(0, 600, 2))])
@pytest.mark.parametrize("order", ["C", "F"])
def test_values_become_their_numbers(values: list[int], order: str) -> None:
    """Every known value gets its number and every other one `other`, in the smallest type, also for huge values."""
    rng = np.random.default_rng(0)
    labels = np.asarray(rng.choice([*values, 1, 299, 40_000], (4, 5, 6)), order=order)  # type: ignore[call-overload]
    numbers = {value: index for index, value in enumerate(values, start=1)}
    found = renumbered(labels, numbers, other=0)
    assert found.dtype == np.min_scalar_type(len(values))
    assert found.flags.c_contiguous
    assert np.array_equal(found, np.vectorize(lambda value: numbers.get(value, 0))(labels))
    other = renumbered(labels[1], numbers, other=-1)
    assert np.array_equal(other, np.vectorize(lambda value: numbers.get(value, -1))(labels[1]))
    assert renumbered(labels[0, 0], numbers, other=0).shape == (6,)
