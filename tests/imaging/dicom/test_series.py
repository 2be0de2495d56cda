"""DICOM series, with SimpleITK as the oracle and landmarks in mm."""

import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - as its documentation has it
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from unetpipe.errors import GeometryError, ImageFileError, UnetpipeError
from unetpipe.imaging.dicom.decoding import refuse_loss
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_grid, read_volume
from unetpipe.imaging.geometry import Grid, orientation_to_ras
from unetpipe.imaging.image import read_image


def sample(name: str) -> Path:
    """A file that comes with pydicom; nothing is downloaded."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


@pytest.fixture
def folder(tmp_path: Path, oblique: Grid, voxels: Callable[[Grid], NDArray[np.int16]]) -> Path:
    """A synthetic oblique series."""
    write_series(tmp_path / "series", voxels(oblique), oblique, seed=3)
    return tmp_path / "series"


def edit(folder: Path, change: Callable[[Dataset], None], *slices: int) -> None:
    """Change slices (by their number along K; none means all) and save them in place."""
    for file in sorted(folder.iterdir()):
        image = pydicom.dcmread(file)
        if not slices or image.InstanceNumber - 1 in slices:
            change(image)
            image.save_as(file)


def at(folder: Path, number: int) -> Path:
    """The file of a slice."""
    return next(f for f in folder.iterdir() if pydicom.dcmread(f, stop_before_pixels=True).InstanceNumber == number + 1)


def test_every_voxel_lies_where_it_was_written(
    tmp_path: Path, oriented_grid: Grid, voxels: Callable[[Grid], NDArray[np.int16]]
) -> None:
    """For every axis order, oblique and anisotropic: the same value within 1e-6 mm, K reversed where left-handed."""
    array = voxels(oriented_grid)
    write_series(tmp_path / "series", array, oriented_grid, seed=1)
    volume = read_volume(tmp_path / "series")
    assert read_grid(tmp_path / "series") == (1, volume.grid)
    back = np.linalg.inv(volume.grid.matrix) @ oriented_grid.matrix
    for voxel in np.ndindex(*oriented_grid.shape):
        found = back @ (*voxel, 1)
        assert np.abs(found - np.rint(found)).max() < 1e-6
        assert volume.array[(0, *np.rint(found[:3]).astype(int))] == array[voxel]


def test_a_series_and_a_file_of_the_same_scan_are_the_same_image(oblique: Grid, folder: Path) -> None:
    """In RAS+ order, DICOM gives what the array and grid that it was written from give."""
    image = read_image([folder])
    array = np.random.default_rng(7).integers(-400, 1500, oblique.shape)
    assert np.array_equal(image.channels[0], orientation_to_ras(oblique).to_ras(array))
    assert np.allclose(image.grid.matrix, oblique.canonical().matrix, atol=1e-6)


@pytest.mark.parametrize(("second", "warned"), [("copy", False), ("other examination", True), ("unstated", False)])
def test_channels_of_two_frames_of_reference_are_warned_of(
    tmp_path: Path, oblique: Grid, second: str, warned: bool
) -> None:
    """One protocol gives equal grids at every time point; where a series states no frame, nothing can be said."""
    array = np.zeros(oblique.shape, np.int16)
    for name, seed in (("first", 1), ("second", 2 if second == "other examination" else 1)):
        write_series(tmp_path / name, array, oblique, seed=seed)
    for file in (tmp_path / "second").iterdir() if second == "unstated" else ():
        image = pydicom.dcmread(file)
        del image.FrameOfReferenceUID
        image.save_as(file)
    notes = read_image([tmp_path / "first", tmp_path / "second"]).notes
    assert [note.startswith("Channel file 2: Its frame of reference is not") for note in notes] == [True] * warned


def test_slices_of_two_frames_of_reference_are_warned_of(tmp_path: Path, oblique: Grid) -> None:
    """As where the patient was moved within a series: the places of its slices have nothing to do with each other."""
    write_series(tmp_path, np.zeros(oblique.shape, np.int16), oblique, seed=1)
    image = pydicom.dcmread(file := next(tmp_path.iterdir()))
    image.FrameOfReferenceUID = "1.2.3"
    image.save_as(file)
    (note,) = read_image([tmp_path]).notes
    assert note.startswith("Its slices have 2 frames of reference")


@pytest.mark.parametrize("name", ["brain_t1_oblique", "brain_t2_oblique", "hippocampus_crop"])
def test_real_series_equal_simpleitk(shared_data: Path, name: str) -> None:
    """Voxels and geometry of its series reader; 1e-5 mm."""
    folder = shared_data / "dicom" / name
    volume = read_volume(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    theirs = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(theirs).T, volume.array[0])
    for voxel in ((0, 0, 0), (5, 7, 3), tuple(n - 1 for n in volume.grid.shape)):
        place = np.array(theirs.TransformIndexToPhysicalPoint(voxel)) * (-1, -1, 1)
        assert np.allclose((volume.grid.matrix @ (*voxel, 1))[:3], place, atol=1e-5)


def test_names_and_numbers_do_not_matter(folder: Path) -> None:
    """Shuffled instance numbers and file names change nothing."""
    before = read_volume(folder)
    numbers = iter(np.random.default_rng(0).permutation(6))
    edit(folder, lambda image: setattr(image, "InstanceNumber", int(next(numbers)) + 1))
    for number, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        file.rename(folder / f"IM{number}")
    after = read_volume(folder)
    assert np.array_equal(after.array, before.array)
    assert after.grid == before.grid


def test_each_slice_has_its_own_slope(folder: Path) -> None:
    """Stored values of PET slices mean different things; each is rescaled by its own header."""
    stored = read_volume(folder).array[0].astype(np.float64)

    def rescale(image: Dataset) -> None:
        image.RescaleSlope, image.RescaleIntercept = image.InstanceNumber * 0.5, -10 * image.InstanceNumber

    edit(folder, rescale)
    result = read_volume(folder).array[0]
    assert result.dtype == np.float32
    numbers = np.arange(1, 7)[::-1]  # the grid is left-handed: K comes back reversed
    assert np.allclose(result, stored * (numbers * 0.5) - 10 * numbers, atol=1e-3)


@pytest.mark.parametrize("representation", [0, 1])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_whole_number_that_is_added_keeps_integers(folder: Path, representation: int, bits: int) -> None:
    """CT adds -1024 to all values: sums are int16, half of what float32 takes, unless one does not fit."""
    random = np.random.default_rng(0)
    kind = np.dtype(f"{'ui'[representation]}{bits // 8}")
    pixels = {}

    def store(image: Dataset, extreme: int = 0) -> None:
        image.BitsAllocated, image.BitsStored, image.HighBit = bits, bits, bits - 1
        image.PixelRepresentation, image.RescaleIntercept = representation, -1024
        values = random.integers(0, 100, (image.Rows, image.Columns)).astype(kind)
        values.flat[image.InstanceNumber] = extreme
        pixels[image.InstanceNumber] = values.astype(np.int64) - 1024
        image.PixelData = values.tobytes()

    edit(folder, store)
    result = read_volume(folder).array[0]
    assert result.dtype == np.int16
    expected = np.stack([pixels[number].T for number in range(len(pixels), 0, -1)], axis=-1)
    assert np.array_equal(result, expected)
    if bits == 16:
        edit(folder, lambda image: store(image, np.iinfo(kind).max if not representation else np.iinfo(kind).min))
        result = read_volume(folder).array[0]
        assert result.dtype == np.float32
        expected = np.stack([pixels[number].T for number in range(len(pixels), 0, -1)], axis=-1)
        assert np.array_equal(result, expected)


@pytest.mark.parametrize(("representation", "bits"), [(1, 16), (0, 12)])
def test_monochrome1_is_inverted(folder: Path, representation: int, bits: int) -> None:
    """The lowest stored value is the brightest, for signed and unsigned pixels."""
    stored = read_volume(folder).array[0]

    def invert(image: Dataset) -> None:
        image.PhotometricInterpretation = "MONOCHROME1"
        image.PixelRepresentation, image.BitsStored, image.HighBit = representation, bits, bits - 1
        pixels = image.pixel_array if representation else image.pixel_array % 4096
        image.PixelData = pixels.astype(np.int16).tobytes()

    edit(folder, invert)
    result = read_volume(folder).array[0]
    if representation:
        assert np.array_equal(result, -1 - stored)
    else:
        assert result.dtype == np.uint16
        assert np.array_equal(result, 4095 - stored % 4096)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("as_label", [False, True])
def test_compressed_pixels_are_decoded(tmp_path: Path, syntax: str, as_label: bool) -> None:
    """Lossless syntaxes give the same voxels, to images and labels."""
    array = np.random.default_rng(0).integers(0, 3000, (40, 36, 3)).astype(np.int16)
    write_series(tmp_path, array, Grid.of(array.shape, np.diag([-1.0, -1, 1, 1])), seed=0)
    edit(tmp_path, lambda image: image.update({"PixelRepresentation": 0, "LossyImageCompression": "00"}))
    edit(tmp_path, lambda image: image.compress(syntax, generate_instance_uid=False))
    assert np.array_equal(read_volume(tmp_path, as_label=as_label).array[0], array)


@pytest.mark.parametrize(("syntax", "options"), [(JPEGLSNearLossless, {"jls_error": 2}), (JPEG2000, {"j2k_cr": [4]})])
def test_labels_compressed_with_loss_are_refused(tmp_path: Path, syntax: str, options: dict[str, Any]) -> None:
    """Loss invents values: the transfer syntax of one slice is enough, and intensities are still read."""
    array = np.random.default_rng(0).integers(0, 3000, (40, 36, 3)).astype(np.int16)
    write_series(tmp_path, array, Grid.of(array.shape, np.diag([-1.0, -1, 1, 1])), seed=0)
    edit(tmp_path, lambda image: setattr(image, "PixelRepresentation", 0))
    edit(tmp_path, lambda image: image.compress(syntax, generate_instance_uid=False, **options), 2)
    assert read_volume(tmp_path).array.shape == (1, 40, 36, 3)
    with pytest.raises(ImageFileError, match=r"^DICOM series: labels stored with loss \(JPEG"):
        read_volume(tmp_path, as_label=True)


def test_transfer_syntaxes_that_labels_may_have() -> None:
    """Those without compression, and those that compress without loss; JPEG 2000 may be either, and does not say."""
    for kept in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEGLossless, JPEGLosslessSV1, HTJ2KLossless):
        refuse_loss(kept)
    for lossy in (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K):
        with pytest.raises(ImageFileError, match="labels stored with loss"):
            refuse_loss(lossy)


def test_labels_that_were_once_compressed_with_loss_are_refused(folder: Path) -> None:
    """Decompressed since, they still hold the values that loss invented."""
    edit(folder, lambda image: setattr(image, "LossyImageCompression", "01"), 3)
    assert read_volume(folder).array.shape[0] == 1
    with pytest.raises(ImageFileError, match=r"labels stored with loss \(LossyImageCompression is 01\)"):
        read_volume(folder, as_label=True)


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_expb.dcm"]
)
def test_samples_of_other_encoders_are_decoded(tmp_path: Path, name: str) -> None:
    """Equal to the uncompressed original of the same image, in the machine's byte order."""
    for file in ("MR_small.dcm", name):
        (tmp_path / file).mkdir()
        shutil.copy(sample(file), tmp_path / file)
    volume = read_volume(tmp_path / name)
    assert volume.array.dtype.isnative
    assert np.array_equal(volume.array, read_volume(tmp_path / "MR_small.dcm").array)


def test_a_sample_ct_has_its_hounsfield_units(tmp_path: Path) -> None:
    """Slope and intercept of pydicom's CT: air near -1000."""
    shutil.copy(sample("CT_small.dcm"), tmp_path)
    volume = read_volume(tmp_path)
    image = pydicom.dcmread(sample("CT_small.dcm"))
    assert np.array_equal(volume.array[0, :, :, 0].T, image.pixel_array * 1.0 - 1024)
    assert volume.grid.spacing_mm == pytest.approx((0.661468, 0.661468, 5.0))


def test_what_is_no_slice_is_left_out(folder: Path) -> None:
    """Notes, hidden files, a DICOMDIR, a report, a segmentation and a localizer lie beside the slices."""
    before = read_volume(folder)
    (folder / "README.txt").write_text("not an image")
    (folder / "._000001.dcm").write_bytes(b"a file that only its owner's system understands")
    (folder / "more").mkdir()
    shutil.copy(sample("DICOMDIR"), folder / "DICOMDIR")
    shutil.copy(sample("test-SR.dcm"), folder / "report")
    shutil.copy(sample("liver_1frame.dcm"), folder / "segmentation")
    localizer = pydicom.dcmread(at(folder, 0))
    localizer.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    localizer.save_as(folder / "localizer")
    after = read_volume(folder)
    assert np.array_equal(after.array, before.array)
    assert after.grid == before.grid


def test_a_folder_without_slices_says_what_was_there(tmp_path: Path) -> None:
    """Nothing but a report and a text."""
    shutil.copy(sample("test-SR.dcm"), tmp_path / "report")
    (tmp_path / "README.txt").write_text("not an image")
    with pytest.raises(ImageFileError, match="no image in it; left out: 1 not DICOM, 1 SR object"):
        read_volume(tmp_path)


def moved(*by: float) -> Callable[[Dataset], None]:
    """Shift a slice by mm in LPS."""

    def change(image: Dataset) -> None:
        position = zip(image.ImagePositionPatient, by, strict=True)
        image.ImagePositionPatient = [round(float(mm) + delta, 6) for mm, delta in position]

    return change


def leaned(image: Dataset) -> None:
    """Shift each slice along its rows in proportion to its number, as a tilted gantry does."""
    row = np.array(image.ImageOrientationPatient[:3], dtype=float)
    moved(*(0.2 * image.InstanceNumber * row))(image)


def copy(folder: Path, number: int) -> None:
    """Add a slice a second time, with another comment in its header."""
    image = pydicom.dcmread(at(folder, number))
    image.ImageComments = "again"
    image.save_as(folder / "copy.dcm")


def turned(image: Dataset) -> None:
    """Exchange rows and columns."""
    cosines = list(image.ImageOrientationPatient)
    image.ImageOrientationPatient = cosines[3:] + cosines[:3]


def colour(image: Dataset) -> None:
    """Three samples per pixel."""
    image.SamplesPerPixel = 3


FAULTS: dict[str, tuple[type[UnetpipeError], str, Callable[[Path], object]]] = {
    "missing": (GeometryError, "MISSING_SLICE", lambda f: at(f, 2).unlink()),
    "duplicate": (GeometryError, "DUPLICATE", lambda f: copy(f, 2)),
    "uneven": (GeometryError, "NONUNIFORM", lambda f: edit(f, moved(0.1, 0.2, 0.3), 3)),
    "tilt": (GeometryError, "TILT", lambda f: edit(f, leaned)),
    "mixed orientation": (GeometryError, "MIXED_ORIENTATION", lambda f: edit(f, turned, 1)),
    "mixed size": (GeometryError, "MIXED_SIZE", lambda f: edit(f, lambda i: setattr(i, "Rows", 4), 1)),
    "mixed pixels": (
        GeometryError,
        "MIXED_SPACING",
        lambda f: edit(f, lambda i: setattr(i, "PixelSpacing", [1, 1]), 0),
    ),
    "no position": (GeometryError, "NO_POSITION", lambda f: edit(f, lambda i: i.pop("ImagePositionPatient"), 1)),
    "no spacing": (GeometryError, "NO_POSITION.*PixelSpacing", lambda f: edit(f, lambda i: i.pop("PixelSpacing"), 1)),
    "no direction": (
        GeometryError,
        "length 1",
        lambda f: edit(f, lambda i: setattr(i, "ImageOrientationPatient", [0] * 6)),
    ),
    "two series": (
        ImageFileError,
        "SEVERAL_SERIES: expected one, got 2 .1: 1 MR image of 9x8, 2: 5 MR images of 9x8.: choose one with --series",
        lambda f: edit(f, lambda i: setattr(i, "SeriesInstanceUID", "1.2.3.4"), 1),
    ),
    "colour": (ImageFileError, "colour", lambda f: edit(f, colour)),
    "frames": (ImageFileError, "MULTIFRAME", lambda f: edit(f, lambda i: setattr(i, "NumberOfFrames", 3), 1)),
    "nuclear medicine": (
        ImageFileError,
        "MULTIFRAME: nuclear medicine",
        lambda f: edit(f, lambda i: i.update({"Modality": "NM", "NumberOfFrames": 3})),
    ),
    "lookup": (ImageFileError, "lookup", lambda f: edit(f, lambda i: setattr(i, "ModalityLUTSequence", [Dataset()]))),
    "empty file": (ImageFileError, "named like a slice is empty", lambda f: at(f, 1).write_bytes(b"")),
    "cut header": (ImageFileError, "cut off|damaged", lambda f: at(f, 1).write_bytes(at(f, 1).read_bytes()[:500])),
    "empty folder": (ImageFileError, "left out: nothing", lambda f: [file.unlink() for file in f.iterdir()]),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("read", [read_volume, read_grid])
def test_each_fault_is_named(folder: Path, fault: str, read: Callable[[Path], object]) -> None:
    """Headers alone tell it; neither a path nor an identifier is in the message."""
    error, reason, plant = FAULTS[fault]
    plant(folder)
    with pytest.raises(error, match=f"^DICOM series: .*({reason})") as caught:
        read(folder)
    for private in (str(folder), "1.2.826", "1.2.3.4", "SYNTHETIC", "\n"):
        assert private not in str(caught.value)


def test_text_in_place_of_numbers_is_named(folder: Path) -> None:
    """A decimal string that is no number."""
    path = at(folder, 1)
    raw = path.read_bytes()
    spacing = raw.index(b"\x28\x00\x30\x00DS")
    path.write_bytes(raw[: spacing + 8] + b"w" * 4 + raw[spacing + 12 :])
    with pytest.raises(ImageFileError, match="text where a number belongs"):
        read_volume(folder)


def test_phases_in_one_series_are_told_apart_by_name(folder: Path) -> None:
    """Two echoes of the same slices: the message says which attribute differs."""
    for file in list(folder.iterdir()):
        image = pydicom.dcmread(file)
        image.EchoTime = 80
        image.save_as(folder / f"echo_{file.name}")
    with pytest.raises(GeometryError, match=r"DUPLICATE: .*their EchoTime differ"):
        read_volume(folder)


def test_pixels_that_cannot_be_decoded_are_named(folder: Path) -> None:
    """Cut off inside the pixels: the header is fine, the image's number and encoding are told."""
    path = at(folder, 1)
    path.write_bytes(path.read_bytes()[:-40])
    read_grid(folder)
    with pytest.raises(ImageFileError, match=r"image 5 of 6 cannot be decoded \(Explicit VR Little Endian\)"):
        read_volume(folder)


def test_headers_are_enough_for_the_grid(folder: Path) -> None:
    """`read_grid` reads no pixels: it works on files that have none."""
    expected = read_volume(folder).grid
    edit(folder, lambda image: image.pop("PixelData"))
    assert read_grid(folder) == (1, expected)


def enhanced(folder: Path) -> None:
    """Replace a classic series by one enhanced multi-frame image with the frames in another order."""
    images = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    for file in folder.iterdir():
        file.unlink()
    multi = images[0]
    multi.SOPClassUID = multi.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    shared, frames = Dataset(), []
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = multi.PixelSpacing
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = multi.ImageOrientationPatient
    for number, image in enumerate(images):
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = image.ImagePositionPatient
        frame.PixelValueTransformationSequence = [Dataset()]
        frame.PixelValueTransformationSequence[0].RescaleSlope = number + 1
        frame.PixelValueTransformationSequence[0].RescaleIntercept = 0
        frames.append(frame)
    pixels = [(image.pixel_array // (number + 1)).astype(np.int16) for number, image in enumerate(images)]
    multi.NumberOfFrames, multi.PixelData = len(images), np.stack(pixels).tobytes()
    multi.SharedFunctionalGroupsSequence, multi.PerFrameFunctionalGroupsSequence = [shared], frames
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        del multi[keyword]
    multi.save_as(folder / "enhanced.dcm")


def test_an_enhanced_image_equals_the_classic_series(folder: Path) -> None:
    """Frames are placed and rescaled by their functional groups."""
    classic = read_volume(folder)
    enhanced(folder)
    multi = read_volume(folder)
    assert multi.grid == classic.grid
    assert np.abs(multi.array - classic.array).max() < 6  # the test divides stored values by up to 6


def test_nothing_private_is_said_while_reading(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Values that break the standard are not quoted in warnings or logs."""

    def break_rules(image: Dataset) -> None:
        image["SeriesInstanceUID"]._value = "1.2.3.not.a.uid"
        image["PatientID"]._value = "x" * 90

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        edit(folder, break_rules)
    with warnings.catch_warnings(record=True) as said, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        read_volume(folder)
    text = caplog.text + "".join(str(warning.message) for warning in said)
    assert "not.a.uid" not in text
    assert "xxx" not in text


def test_a_sheared_grid_cannot_be_written(tmp_path: Path) -> None:
    """DICOM slices have perpendicular rows and columns, and so has what is written."""
    affine = np.eye(4)
    affine[0, 1] = 0.2
    with pytest.raises(GeometryError, match="perpendicular"):
        write_series(tmp_path, np.zeros((2, 2, 2), np.int16), Grid.of((2, 2, 2), affine), seed=0)


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path, oblique: Grid) -> None:
    """Names, identifiers and contents are reproducible; another seed is another series."""
    array = np.zeros(oblique.shape, np.int16)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_series(tmp_path / name, array, oblique, modality="CT", seed=seed)
    contents = {n: {f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in "abc"}
    assert contents["a"] == contents["b"]
    assert contents["a"] != contents["c"]
