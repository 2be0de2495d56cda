"""Several volumes in one series: told apart, numbered, and never mixed."""

from collections.abc import Callable

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.files import read_grid, read_volume


def darker(image: Dataset, by: int) -> None:
    """Other values, so that volumes can be told apart."""
    image.PixelData = (image.pixel_array - by).astype(np.int16).tobytes()


def keyword(name: str, *values: object) -> Callable[[Dataset, int], None]:
    """Set an attribute to a value per volume."""
    return lambda image, volume: setattr(image, name, values[volume])


def private(group: int, creator: str, offset: int, vr: str, *values: object) -> Callable[[Dataset, int], None]:
    """Set a vendor's private attribute to a value per volume."""

    def change(image: Dataset, volume: int) -> None:
        image.private_block(group, creator, create=True).add_new(offset, vr, values[volume])

    return change


def behind(group: int, change: Callable[[Dataset, int], None]) -> Callable[[Dataset, int], None]:
    """Let other creators reserve all blocks of a group but the last of the first sixteen."""

    def changed(image: Dataset, volume: int) -> None:
        for number in range(15):
            image.private_block(group, f"OTHER {number}", create=True)
        change(image, volume)

    return changed


def at_time(image: Dataset, volume: int) -> None:
    """Each slice at a moment of its own, all of the second volume after those of the first."""
    image.AcquisitionTime = f"10{volume:02d}{image.InstanceNumber:02d}"


DIFFERENCES = {
    "echoes": (keyword("EchoTime", 10, 80), "EchoTime"),
    "b-values": (keyword("DiffusionBValue", 0, 1000), "DiffusionBValue"),
    "b-values of Siemens": (private(0x19, "SIEMENS MR HEADER", 0x0C, "IS", 0, 1000), "DiffusionBValue"),
    "b-values of GE": (private(0x43, "GEMS_PARM_01", 0x39, "IS", [0, 8], [1000001000, 8]), "DiffusionBValue"),
    "b-values of Philips": (private(0x2001, "Philips Imaging DD 001", 3, "FL", 0.0, 1000.0), "DiffusionBValue"),
    "b-values in another block": (
        behind(0x19, private(0x19, "SIEMENS MR HEADER", 0x0C, "IS", 0, 1000)),
        "DiffusionBValue",
    ),
    "directions": (
        keyword("DiffusionGradientOrientation", [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]),
        "DiffusionGradientOrientation",
    ),
    "inversion times": (keyword("InversionTime", 100, 2000), "InversionTime"),
    "kernels": (keyword("ConvolutionKernel", "B30f", "B70f"), "ConvolutionKernel"),
    "magnitude and phase": (
        keyword("ImageType", ["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]),
        "FrameType",
    ),
    "dynamic times": (keyword("TemporalPositionIdentifier", 1, 2), "TemporalPosition"),
    "cardiac phases": (keyword("NominalPercentageOfCardiacPhase", 35.0, 75.0), "CardiacPhase"),
    "acquisitions": (keyword("AcquisitionNumber", 1, 2), "AcquisitionNumber"),
    "trigger times": (keyword("TriggerTime", 0, 300), "TriggerTime"),
    "PET frames": (keyword("FrameReferenceTime", 1000, 9000), "ReferenceTime"),
    "moments": (at_time, "AcquisitionTime"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_volumes_of_one_series_are_told_apart(series, difference: str) -> None:
    """Each can be chosen by its number; without a choice the error says in what they differ."""
    change, name = DIFFERENCES[difference]
    before = read_volume(series.path)
    series.edit(lambda image: change(image, 0))
    series.add_copies(lambda image: (change(image, 1), darker(image, 100)))
    with pytest.raises(GeometryError, match=rf"DUPLICATE: 2 volumes in one series; their {name} differ .*--phase"):
        read_grid(series.path)
    first, second = (read_volume(series.path, DicomOptions(phase=phase)) for phase in (1, 2))
    assert first.grid == second.grid == before.grid
    assert np.array_equal(first.array, before.array)
    assert np.array_equal(second.array, before.array - 100)
    assert any(note.startswith("Volume 2 of 2 of the series was taken: 6 slices") for note in second.notes)


def test_a_phase_that_is_not_there_is_named(series) -> None:
    """One volume has no second phase."""
    with pytest.raises(ImageFileError, match=r"--phase 2: the series has 1 volume$"):
        read_grid(series.path, DicomOptions(phase=2))


def test_values_that_differ_from_slice_to_slice_are_no_phases(series) -> None:
    """Times, and echo times with jitter, differ within one volume."""
    before = read_volume(series.path)

    def vary(image: Dataset) -> None:
        image.EchoTime, image.AcquisitionNumber = 10 + image.InstanceNumber / 100, image.InstanceNumber
        image.AcquisitionTime = image.ContentTime = f"1000{image.InstanceNumber:02d}"

    series.edit(vary)
    assert np.array_equal(read_volume(series.path).array, before.array)


@pytest.mark.parametrize("name", ["AcquisitionNumber", "EchoTime", "AcquisitionTime"])
def test_acquisitions_at_half_gaps_are_two_volumes(series, name: str) -> None:
    """Slices of one lie between those of the other, each as thick as its own gap: together they would pass as one."""
    values = {"AcquisitionNumber": (1, 2), "EchoTime": (10, 20), "AcquisitionTime": ("1000", "1005")}[name]
    series.edit(lambda image: setattr(image, name, values[image.InstanceNumber % 2]))
    series.edit(lambda image: setattr(image, "SliceThickness", 5.0))
    with pytest.raises(GeometryError, match=rf"2 volumes in one series; their {name} differ"):
        read_grid(series.path)
    assert read_grid(series.path, DicomOptions(phase=2))[1].spacing_mm[2] == pytest.approx(5.0)


def test_an_interleaved_acquisition_is_one_volume(series) -> None:
    """Odd and even slices of two packages, each as thick as the gap to its neighbour in the other package."""
    before = read_volume(series.path)

    def package(image: Dataset) -> None:
        image.AcquisitionNumber, image.AcquisitionTime = 1 + image.InstanceNumber % 2, f"100{image.InstanceNumber % 2}"

    series.edit(package)
    assert np.array_equal(read_volume(series.path).array, before.array)


def test_a_scan_in_steps_of_the_table_is_one_volume(series) -> None:
    """Each pair of neighbours has an acquisition number of its own."""
    before = read_volume(series.path)
    series.edit(lambda image: setattr(image, "AcquisitionNumber", (image.InstanceNumber + 1) // 2))
    assert np.array_equal(read_volume(series.path).array, before.array)


def test_an_unfinished_phase_is_a_volume_of_fewer_slices(series) -> None:
    """The last time point lacks its last slices; the others are not touched."""
    series.edit(lambda image: setattr(image, "TemporalPositionIdentifier", 1))
    series.add_copies(lambda image: setattr(image, "TemporalPositionIdentifier", 2))
    for file in list(series.path.glob("copy_*")):
        if pydicom.dcmread(file).InstanceNumber > 4:
            file.unlink()
    with pytest.raises(GeometryError, match=r"1: 6 slices, TemporalPosition 1; 2: 4 slices, TemporalPosition 2"):
        read_grid(series.path)
    assert read_grid(series.path, DicomOptions(phase=2))[1].shape == (9, 8, 4)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda image: setattr(image, "PixelSpacing", [2, 2]), "MIXED_SPACING"),
        (lambda image: setattr(image, "ImageOrientationPatient", [1, 0, 0, 0, 1, 0]), "MIXED_ORIENTATION"),
    ],
)
def test_other_geometry_is_another_volume(series, change: Callable[[Dataset], None], word: str) -> None:
    """Without a choice the series is refused as before; with one each part is a volume."""
    series.edit(change, 3, 4, 5)
    with pytest.raises(GeometryError, match=rf"{word}: .*1: 3 slices; 2: 3 slices.: choose one with --phase"):
        read_grid(series.path)
    shapes = {read_grid(series.path, DicomOptions(phase=phase, fix_geometry=True))[1].shape[:2] for phase in (1, 2)}
    assert shapes == {(9, 8)} or word == "MIXED_ORIENTATION"


def content(frame: Dataset, macro: str, name: str, value: object) -> None:
    """Set an attribute in a macro of a frame."""
    item = Dataset()
    setattr(item, name, value)
    setattr(frame, macro, [item])


@pytest.mark.parametrize(
    ("macro", "name", "values"),
    [
        ("MREchoSequence", "EffectiveEchoTime", (10.0, 80.0)),
        ("MRDiffusionSequence", "DiffusionBValue", (0.0, 800.0)),
        ("FrameContentSequence", "TemporalPositionIndex", (1, 2)),
        ("FrameContentSequence", "StackID", ("1", "2")),
        ("FrameContentSequence", "DimensionIndexValues", ((1, 1), (1, 2))),
        ("CTReconstructionSequence", "ConvolutionKernel", ("B30", "B70")),
        ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", (0.0, 300.0)),
    ],
)
def test_frames_of_an_enhanced_image_are_told_apart(series, macro: str, name: str, values: tuple[object, ...]) -> None:
    """By what their functional groups say."""
    classic = read_volume(series.path)
    copies = {image.SOPInstanceUID for image in map(pydicom.dcmread, series.path.iterdir())}
    series.add_copies(lambda image: darker(image, 100))

    def place(frame: Dataset, image: Dataset) -> None:
        value = values[image.SOPInstanceUID not in copies]
        content(frame, macro, name, list(value) if isinstance(value, tuple) else value)

    series.make_enhanced(place)
    with pytest.raises(GeometryError, match="2 volumes in one series"):
        read_grid(series.path)
    second = read_volume(series.path, DicomOptions(phase=2))
    assert np.array_equal(second.array, classic.array - 100)


def test_a_concatenation_is_one_volume(series) -> None:
    """One enhanced image that was split over two files."""
    classic = read_volume(series.path)
    image = series.make_enhanced()
    frames, pixels = list(image.PerFrameFunctionalGroupsSequence), image.PixelData
    size = len(pixels) // 6
    for part, (start, stop) in enumerate(((0, 4), (4, 6)), start=1):
        image.ConcatenationUID, image.InConcatenationNumber, image.SOPInstanceUID = "1.2.9", part, f"1.2.10.{part}"
        image.NumberOfFrames, image.PerFrameFunctionalGroupsSequence = stop - start, frames[start:stop]
        image.PixelData = pixels[start * size : stop * size]
        image.save_as(series.path / f"part_{part}.dcm")
    (series.path / "enhanced.dcm").unlink()
    volume = read_volume(series.path)
    assert volume.grid == classic.grid
    assert np.array_equal(volume.array, classic.array)
