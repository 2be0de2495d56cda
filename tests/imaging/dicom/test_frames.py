"""Where frames lie: named macros only, one item per frame, positive spacing and directions of length 1."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.files import read_grid, read_volume


def private_position(frame: Dataset, image: Dataset) -> None:
    """Philips' private sequence with a position, spacing and slope of its own, before and after the public macros."""
    for group in (0x0009, 0x2005):
        block = frame.private_block(group, "Philips MR Imaging DD 005", create=True)
        private = Dataset()
        private.ImagePositionPatient = [float(mm) + 1.6 for mm in image.ImagePositionPatient]
        private.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
        private.PixelSpacing, private.RescaleSlope, private.EchoTime = [7, 7], 9, image.InstanceNumber
        block.add_new(0x0F, "SQ", [private])


def test_private_sequences_say_nothing_about_public_geometry(series) -> None:
    """Positions, spacing and slopes come from the macros that the standard names."""
    classic = read_volume(series.path)
    series.make_enhanced(private_position)
    enhanced = read_volume(series.path)
    assert enhanced.grid == classic.grid
    assert np.array_equal(enhanced.array, classic.array)


def test_a_frames_own_macros_come_before_shared_ones(series) -> None:
    """A slope in both is taken from the frame."""
    classic = read_volume(series.path)
    image = series.make_enhanced()
    transformation = Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = 50, 0
    image.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [transformation]
    own = Dataset()
    own.RescaleSlope, own.RescaleIntercept = 2, 1
    for frame in image.PerFrameFunctionalGroupsSequence:
        frame.PixelValueTransformationSequence = [own]
    image.save_as(series.path / "enhanced.dcm")
    assert np.allclose(read_volume(series.path).array, classic.array * 2.0 + 1)


@pytest.mark.parametrize("read", [read_grid, read_volume])
@pytest.mark.parametrize("frames", [3, 5, 7, 8])
def test_as_many_items_as_frames_are_needed(series, frames: int, read) -> None:
    """Fewer or more frames than functional groups: nothing says where each lies."""
    image = series.make_enhanced()
    image.NumberOfFrames = frames
    image.save_as(series.path / "enhanced.dcm")
    with pytest.raises(ImageFileError, match=f"MULTIFRAME: {frames} frames, but 6 items"):
        read(series.path)


def test_pixels_of_fewer_frames_than_the_header_says_are_refused(series) -> None:
    """Pixel data that ends early is no volume with a hole."""
    image = series.make_enhanced()
    image.PixelData = image.PixelData[: len(image.PixelData) // 2]
    image.save_as(series.path / "enhanced.dcm")
    with pytest.raises(ImageFileError, match="cannot be decoded"):
        read_volume(series.path)


@pytest.mark.parametrize("spacing", [[-0.9, 0.7], [0.9, -0.7], [0, 0.7], [-0.9, -0.7]])
def test_spacing_that_is_not_positive_is_refused(series, spacing: list[float]) -> None:
    """It is no mirrored image: nothing in DICOM says so."""
    series.edit(lambda image: setattr(image, "PixelSpacing", spacing))
    with pytest.raises(GeometryError, match="PixelSpacing must be positive"):
        read_grid(series.path)


@pytest.mark.parametrize("factor", [0.998, 1.002, 1.0])
def test_directions_that_rounding_made_longer_or_shorter_are_of_length_1(series, factor: float) -> None:
    """The size of voxels is PixelSpacing, whatever the cosines' length."""
    before = read_grid(series.path)[1]
    series.edit(
        lambda image: setattr(
            image, "ImageOrientationPatient", [round(float(c) * factor, 6) for c in image.ImageOrientationPatient]
        )
    )
    after = read_grid(series.path)[1]
    assert np.allclose(after.spacing_mm, before.spacing_mm, rtol=1e-5)
    assert after.difference_mm(before) < 1e-3


@pytest.mark.parametrize("factor", [0.9, 1.02, 2.0])
def test_directions_of_another_length_are_refused(series, factor: float) -> None:
    """Numbers that are no cosines."""
    series.edit(
        lambda image: setattr(
            image, "ImageOrientationPatient", [float(c) * factor for c in image.ImageOrientationPatient]
        )
    )
    with pytest.raises(GeometryError, match="length 1"):
        read_grid(series.path)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("ImagerPixelSpacing", [0.2, 0.2]), ("NominalScannedPixelSpacing", [0.2, 0.2]), ("PixelAspectRatio", [2, 1])],
)
def test_spacing_of_another_kind_does_not_replace_that_of_pixels(series, keyword: str, value: list[float]) -> None:
    """At the detector, of film, or as a ratio: the message says which there is."""

    def exchange(image: Dataset) -> None:
        del image.PixelSpacing
        setattr(image, keyword, value)

    before = read_grid(series.path)
    series.edit(lambda image: setattr(image, keyword, value))
    assert read_grid(series.path) == before
    series.edit(exchange)
    with pytest.raises(GeometryError, match=f"NO_POSITION: an image has no PixelSpacing; {keyword} says nothing"):
        read_grid(series.path)


def test_positions_of_other_lengths_are_refused(series) -> None:
    """Two numbers are no position in space."""
    series.edit(lambda image: setattr(image, "ImagePositionPatient", [1, 2]), 3)
    with pytest.raises(GeometryError, match=r"NO_POSITION.*are not 3, 6 and 2 numbers"):
        read_grid(series.path)
