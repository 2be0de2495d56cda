"""What stored values mean: rescale, real-world value maps, palettes and MONOCHROME1."""

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from unetpipe.errors import ImageFileError
from unetpipe.imaging.files import read_grid, read_volume
from unetpipe.imaging.labels import read_label_volume


def real_world_map(image: Dataset, slope: float, intercept: float) -> None:
    """A real-world value map of one slope."""
    mapped, unit = Dataset(), Dataset()
    mapped.RealWorldValueSlope, mapped.RealWorldValueIntercept = slope, intercept
    unit.CodeValue, unit.CodingSchemeDesignator = "um2/s", "UCUM"
    mapped.MeasurementUnitsCodeSequence = [unit]
    image.RealWorldValueMappingSequence = [mapped]


def palette(image: Dataset, red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> None:
    """Make an image one of 8-bit indices of a colour table of 16-bit entries."""
    image.PhotometricInterpretation, image.PixelRepresentation = "PALETTE COLOR", 0
    image.PixelData = (image.pixel_array % 256).astype(np.uint8).tobytes()
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    for colour, table in (("Red", red), ("Green", green), ("Blue", blue)):
        name = f"{colour}PaletteColorLookupTable"
        image.add_new(tag_for_keyword(f"{name}Descriptor"), "US", [256, 0, 16])
        image.add_new(tag_for_keyword(f"{name}Data"), "OW", table.astype("<u2").tobytes())


def test_a_grey_palette_gives_its_grey_values(series) -> None:
    """Indices are looked up: a table that runs backwards gives other values than the indices."""
    stored = read_volume(series.path).array.astype(np.int64) % 256
    table = np.arange(256)[::-1] * 17
    series.edit(lambda image: palette(image, table, table, table))
    assert np.array_equal(read_volume(series.path).array, table[stored])


@pytest.mark.parametrize("read", [read_grid, read_volume])
def test_a_colour_palette_is_refused_by_name(series, read) -> None:
    """Red, green and blue differ, or the table is gone: indices are never taken for intensities."""
    table = np.arange(256)
    series.edit(lambda image: palette(image, table, table[::-1], table))
    with pytest.raises(ImageFileError, match="PALETTE COLOR: values are indices of a colour table; colour"):
        read(series.path)
    series.edit(lambda image: image.pop("RedPaletteColorLookupTableData"))
    with pytest.raises(ImageFileError, match=r"PALETTE COLOR: .* not in the file"):
        read(series.path)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("in_the_file", [False, True])
def test_the_indices_of_a_palette_are_the_classes_of_a_label(series, colour: bool, in_the_file: bool) -> None:
    """As in PNG and TIFF: whatever colours show them, be their table in the file or not."""
    stored = read_volume(series.path).array % 256
    table = np.arange(256)[::-1] * 17
    series.edit(lambda image: palette(image, table, table[:: -1 if colour else 1], table))
    if not in_the_file:
        series.edit(lambda image: image.pop("RedPaletteColorLookupTableData"))
    assert np.array_equal(read_label_volume(series.path).array, stored)


def test_labels_that_are_shown_inverted_keep_their_values(series) -> None:
    """MONOCHROME1 inverts intensities without a meaning, and says so; classes stay what is stored."""
    stored = read_volume(series.path).array
    series.edit(lambda image: setattr(image, "PhotometricInterpretation", "MONOCHROME1"))
    assert any("inverted" in note for note in read_volume(series.path).notes)
    label = read_label_volume(series.path)
    assert np.array_equal(label.array, stored)
    assert not label.notes


def test_labels_that_are_saved_with_the_header_of_a_ct_keep_their_values(series) -> None:
    """Its rescale is one of intensities."""
    stored = read_volume(series.path).array
    series.edit(lambda image: setattr(image, "RescaleIntercept", -1024))
    series.edit(lambda image: setattr(image, "RescaleSlope", 1))
    assert np.array_equal(read_label_volume(series.path).array, stored)
    assert np.array_equal(read_volume(series.path).array, stored - 1024.0)


def test_labels_of_pet_keep_their_values(series) -> None:
    """A label map may have the modality of the scan that it was drawn on, and no activity to make SUV of."""
    stored = read_volume(series.path).array
    series.edit(lambda image: setattr(image, "Modality", "PT"))
    assert np.array_equal(read_label_volume(series.path).array, stored)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("intercept", "enhanced"), [(0, False), (-1024, False), (0, True)])
def test_bits_that_are_not_stored_are_no_intensity(series, signed: bool, enhanced: bool, intercept: int) -> None:
    """Twelve of sixteen bits: the others may hold an overlay, or zeros where the sign should be."""
    values = {}

    def store(image: Dataset) -> None:
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, int(signed)
        image.RescaleIntercept, image.RescaleSlope = intercept, 1
        shape = image.Rows, image.Columns
        drawn = np.random.default_rng(image.InstanceNumber).integers(-2048 if signed else 0, 2048, shape)
        values[image.InstanceNumber] = drawn + intercept
        stored = drawn & 0x0FFF if signed else drawn | 0x8000
        image.PixelData = stored.astype("<u2").tobytes()

    series.edit(store)
    if enhanced:
        series.make_enhanced()
    expected = np.stack([values[number].T for number in sorted(values, reverse=True)], axis=-1)
    assert np.array_equal(read_volume(series.path).array[0], expected)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("high", "form"), [(15, ""), (13, ""), (15, "enhanced"), (15, "rle"), (13, "rle")])
def test_a_value_ends_at_its_high_bit(series, signed: bool, form: str, high: int) -> None:
    """Twelve of sixteen bits at the top or in the middle: those below hold no intensity, nor do those above."""
    values = {}

    def store(image: Dataset) -> None:
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, high, int(signed)
        shape = image.Rows, image.Columns
        drawn = np.random.default_rng(image.InstanceNumber).integers(-2048 if signed else 0, 2048, shape)
        values[image.InstanceNumber] = drawn
        others = 0xFFFF & ~(0x0FFF << (high - 11))
        image.PixelData = ((drawn & 0x0FFF) << (high - 11) | others).astype("<u2").tobytes()

    series.edit(store)
    if form == "enhanced":
        series.make_enhanced()
    elif form == "rle":
        series.edit(lambda image: image.compress(RLELossless, generate_instance_uid=False))
    expected = np.stack([values[number].T for number in sorted(values, reverse=True)], axis=-1)
    assert np.array_equal(read_volume(series.path).array[0], expected)


@pytest.mark.parametrize(("stored", "high"), [(12, 16), (12, 10), (16, 11), (20, 19)])
@pytest.mark.parametrize("enhanced", [False, True])
def test_bits_that_do_not_fit_are_refused(series, stored: int, high: int, enhanced: bool) -> None:
    """A value that ends above the pixel's bits, or has more of them than lie below its last one."""

    def change(image: Dataset) -> None:
        image.BitsStored, image.HighBit = stored, high

    series.edit(change)
    if enhanced:
        series.make_enhanced()
    with pytest.raises(ImageFileError, match=rf"{stored} bits of a value cannot end at bit {high} of 16 .*HighBit"):
        read_volume(series.path)


def test_bits_of_floating_point_values_are_left_alone(series) -> None:
    """They have no bits that are not stored, though a file may keep the attributes of the integers that it was."""
    stored = read_volume(series.path).array

    def change(image: Dataset) -> None:
        image.FloatPixelData = (image.pixel_array / 8).astype("<f4").tobytes()
        image.BitsAllocated, image.BitsStored, image.HighBit = 32, 12, 11
        del image.PixelData, image.PixelRepresentation

    series.edit(change)
    assert np.array_equal(read_volume(series.path).array, stored / 8)


MEANINGFUL = {
    "slope": (lambda image: setattr(image, "RescaleSlope", 2), lambda stored: stored * 2.0),
    "intercept": (lambda image: setattr(image, "RescaleIntercept", -1024), lambda stored: stored - 1024.0),
    "type": (lambda image: setattr(image, "RescaleType", "HU"), lambda stored: stored),
    "CT": (lambda image: setattr(image, "Modality", "CT"), lambda stored: stored),
    "real-world map": (lambda image: real_world_map(image, 3, 5), lambda stored: stored * 3.0 + 5),
    "real-world map of slope 1": (lambda image: real_world_map(image, 1, 0), lambda stored: stored),
}


@pytest.mark.parametrize("meaning", MEANINGFUL)
def test_monochrome1_inverts_nothing_that_has_a_meaning(series, meaning: str) -> None:
    """It says how values are shown; a rescale, a unit or a modality that measures says what they are."""
    change, expected = MEANINGFUL[meaning]
    stored = read_volume(series.path).array
    series.edit(lambda image: (setattr(image, "PhotometricInterpretation", "MONOCHROME1"), change(image)))
    volume = read_volume(series.path)
    assert np.array_equal(volume.array, expected(stored))
    assert not any("inverted" in note for note in volume.notes)


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_slope_of_1_among_others_inverts_nothing(series, enhanced: bool) -> None:
    """Where slopes differ from slice to slice and that of one is 1, all slices keep their sense."""
    stored = read_volume(series.path).array

    def scale(frame: Dataset, image: Dataset) -> None:
        frame.PixelValueTransformationSequence = [Dataset()]
        frame.PixelValueTransformationSequence[0].RescaleSlope = image.RescaleSlope
        frame.PixelValueTransformationSequence[0].RescaleIntercept = 0

    def change(image: Dataset) -> None:
        image.PhotometricInterpretation = "MONOCHROME1"
        image.RescaleSlope, image.RescaleIntercept = image.InstanceNumber, 0

    numbers = [pydicom.dcmread(series.file(k)).InstanceNumber for k in range(6)]
    series.edit(change)
    if enhanced:
        series.make_enhanced(scale)
    volume = read_volume(series.path)
    slopes = np.array(numbers[::-1])  # the series is read with K reversed
    assert np.array_equal(volume.array, stored * slopes)
    assert not any("inverted" in note for note in volume.notes)


def test_an_inversion_is_said(series) -> None:
    """Where nothing gives values a meaning, low ones are bright, and the notes say that values were inverted."""
    series.edit(lambda image: setattr(image, "PhotometricInterpretation", "MONOCHROME1"))
    assert "Intensities are inverted: the images are MONOCHROME1" in read_volume(series.path).notes[0]


def test_a_real_world_map_counts_where_there_is_no_rescale(series) -> None:
    """A rescale that changes values is taken before the map, and the notes say that they differ."""
    stored = read_volume(series.path).array
    series.edit(lambda image: real_world_map(image, 0.5, 100))
    assert np.allclose(read_volume(series.path).array, stored * 0.5 + 100)
    series.edit(lambda image: setattr(image, "RescaleSlope", 4))
    volume = read_volume(series.path)
    assert np.allclose(volume.array, stored * 4.0)
    assert volume.notes == ("The rescale slope and the real-world value map differ; the rescale slope is taken.",)


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("RescaleSlope", [1, 2], "2 values where one belongs .RescaleSlope"),
        ("RescaleSlope", 0, "slope of 0"),
        ("RescaleSlope", "nan", "NaN or infinity .*RescaleSlope"),
        ("RescaleIntercept", "inf", "NaN or infinity .*RescaleIntercept"),
        ("PixelSpacing", ["1", "nan"], "NaN or infinity .*PixelSpacing"),
    ],
)
def test_numbers_that_cannot_be_used_are_named(series, keyword: str, value: object, reason: str) -> None:
    """Several values, zero, NaN and infinity: the message names the attribute."""
    series.edit(lambda image: setattr(image, keyword, value), 2)
    with pytest.raises(ImageFileError, match=reason):
        read_grid(series.path)


@pytest.mark.parametrize(
    "keyword", ["RescaleSlope", "RescaleIntercept", "SliceThickness", "NumberOfFrames", "ImageType"]
)
def test_empty_attributes_are_as_good_as_absent(series, keyword: str) -> None:
    """A value of no length gives the default."""
    before = read_volume(series.path)
    series.edit(lambda image: setattr(image, keyword, None))
    assert np.array_equal(read_volume(series.path).array, before.array)


def test_the_modality_is_known(series) -> None:
    """The volume says what its header says."""
    series.edit(lambda image: setattr(image, "Modality", "CT"))
    assert read_volume(series.path).modality == "CT"
