"""Which series of a study is taken."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from pydicom.dataset import Dataset

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.files import read_grid, read_volume


@pytest.fixture
def study(tmp_path: Path, another: Callable) -> Path:
    """Two series of one study: T1 of six slices, T2 of four."""
    for number, (name, shape, description) in enumerate(
        [("a", (9, 8, 6), "ax T1, post"), ("b", (9, 8, 4), "ax T2")], start=1
    ):

        def describe(image: Dataset, number: int = number, description: str = description) -> None:
            image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", f"1.2.3.{number}"
            image.SeriesNumber, image.SeriesDescription, image.EchoTime = 10 * number, description, 10.0 * number

        another(f"study/{name}", shape, seed=number).edit(describe)
    return tmp_path / "study"


@pytest.mark.parametrize(
    ("choice", "slices"),
    [
        ("1", 6),
        ("2", 4),
        ("1.2.3.2", 4),
        ("Modality=MR,SeriesDescription~t2", 4),
        ("SeriesDescription=ax t1, post", 6),
        ("SeriesDescription~^ax,EchoTime=10", 6),
        ("SeriesNumber=20", 4),
        ("ImageType~OTHER,SeriesDescription~T[1]", 6),
    ],
)
def test_a_series_is_chosen_by_number_uid_or_rule(study: Path, choice: str, slices: int) -> None:
    """Numbers count series by their SeriesNumber; text is compared in any case of letters, numbers as numbers."""
    volume = read_volume(study, DicomOptions(series=choice))
    assert volume.grid.shape[2] == slices
    assert "not taken" in volume.notes[-1]


def test_without_a_choice_the_error_lists_the_series(study: Path) -> None:
    """By number, modality and size: no description and no identifier is quoted."""
    with pytest.raises(ImageFileError, match="SEVERAL_SERIES") as caught:
        read_grid(study)
    assert "(1: 6 MR images of 9x8, 2: 4 MR images of 9x8): choose one with --series" in str(caught.value)
    assert "T1" not in str(caught.value)


@pytest.mark.parametrize("choice", ["3", "1.2.3.4", "Modality=CT", "SeriesDescription~flair"])
def test_a_choice_that_nothing_meets_is_an_error(study: Path, choice: str) -> None:
    """The series that there are are listed."""
    with pytest.raises(ImageFileError, match="none of 2 series is the one that was asked for"):
        read_grid(study, DicomOptions(series=choice))


def test_a_rule_that_two_series_meet_is_an_error(study: Path) -> None:
    """It has to say which."""
    with pytest.raises(ImageFileError, match="SEVERAL_SERIES"):
        read_grid(study, DicomOptions(series="Modality=MR"))


@pytest.mark.parametrize("choice", ["", "t1", "Modality", "SeriesDescription~(", "=MR", "1.2.x"])
def test_a_choice_of_another_form_is_refused(choice: str) -> None:
    """Before anything is read."""
    with pytest.raises(ValidationError, match="series"):
        DicomOptions(series=choice)


def test_an_attribute_that_dicom_lacks_is_named(study: Path) -> None:
    """A misspelt keyword matches nothing, and is not taken for one that no series has."""
    with pytest.raises(ImageFileError, match="DICOM has no attribute SeriesDescripton"):
        read_grid(study, DicomOptions(series="SeriesDescripton~t1"))


def crosswise(image: Dataset) -> None:
    """A plane across the volume's."""
    image.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def in_colour(image: Dataset) -> None:
    """A page in colour, without a place."""
    image.SamplesPerPixel, image.PhotometricInterpretation = 3, "RGB"
    del image.ImagePositionPatient


def without_place(image: Dataset) -> None:
    """A grey page without a place."""
    del image.ImagePositionPatient


@pytest.mark.parametrize(("slices", "change"), [(1, crosswise), (2, crosswise), (3, in_colour), (3, without_place)])
def test_scouts_and_pages_do_not_count(
    series, another: Callable, tmp_path: Path, slices: int, change: Callable
) -> None:
    """With one volume beside them the choice is made, and said."""
    before = read_volume(series.path)
    other = another("study/other", (40, 30, slices))
    other.edit(change)
    series.path.rename(tmp_path / "study" / "series")
    volume = read_volume(tmp_path / "study")
    assert np.array_equal(volume.array, before.array)
    assert any("not taken:" in note and re.search(r"MR images? of 40x30", note) for note in volume.notes)


def test_a_scout_of_three_planes_does_not_count(series, another: Callable, tmp_path: Path) -> None:
    """Axial, sagittal and coronal slices in one series, not called a localizer."""
    planes = ([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1])
    other = another("study/other", (40, 30, 15))
    other.edit(lambda image: setattr(image, "ImageOrientationPatient", planes[image.InstanceNumber % 3]))
    series.path.rename(tmp_path / "study" / "series")
    assert read_grid(tmp_path / "study")[1].shape == (9, 8, 6)


def test_a_slice_of_the_volumes_plane_is_no_scout(series) -> None:
    """A last slice under another series' identifier may be missing in the volume: the series are listed."""
    series.edit(lambda image: setattr(image, "SeriesInstanceUID", "1.2.3.4"), 5)
    with pytest.raises(ImageFileError, match="SEVERAL_SERIES"):
        read_grid(series.path)


def test_a_chosen_series_with_a_faulty_image_is_refused(study: Path) -> None:
    """The fault of the series that is meant counts, that of another does not."""
    from pydicom import dcmread

    file = next(iter(sorted((study / "a").iterdir())))
    image = dcmread(file)
    del image.ImagePositionPatient
    image.save_as(file)
    assert read_grid(study, DicomOptions(series="2"))[1].shape == (9, 8, 4)
    with pytest.raises(GeometryError, match="NO_POSITION"):
        read_grid(study, DicomOptions(series="1"))
