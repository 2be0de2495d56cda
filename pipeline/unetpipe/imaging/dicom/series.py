"""DICOM series in a folder: the only module that knows pydicom.

Slices are sorted by where they lie, never by name or number. What is no slice of a volume (localizers, segmentations,
reports, DICOMDIR, other files) is left out. Classic images and enhanced multi-frame ones are read alike, as frames.
Messages carry neither names of files nor any identifier.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, config, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.dicom.slices import Slice, stack
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.volume import Volume
from unetpipe.process_setting import ProcessSetting

# pydicom's warnings about odd values quote them, identifiers included.
_without_validation: ProcessSetting[int] = ProcessSetting(
    lambda: config.settings.reading_validation_mode,
    partial(setattr, config.settings, "reading_validation_mode"),
    config.IGNORE,
)

_PLANAR = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_HEADER = [
    *("SOPClassUID", "Modality", "ImageType", "SeriesInstanceUID", "NumberOfFrames", "Rows", "Columns"),
    *("SamplesPerPixel", "PixelRepresentation", "BitsAllocated", "BitsStored", "PhotometricInterpretation"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "SpacingBetweenSlices", "SliceThickness"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *_PLANAR,
    *("AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime", "DiffusionBValue", "TriggerTime"),
]
_PHASES = ("AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime", "DiffusionBValue", "TriggerTime")
_NO_IMAGE_MODALITIES = frozenset({"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "REG", "DOC", "AU", "ECG"})
_UNDECODABLE = (RuntimeError, ValueError, AttributeError, NotImplementedError, OSError, EOFError, KeyError, IndexError)


@dataclass(frozen=True)
class _Frame:
    """One slice of the series.

    Attributes:
        file: Where its pixels are.
        index: Which frame of that file.
        place: Its geometry.
        slope, intercept: From stored values to what they mean.
        header: Of its file.
    """

    file: Path
    index: int
    place: Slice
    slope: float
    intercept: float
    header: Dataset


@_without_validation
def read(path: Path) -> Volume:
    """Read the one series in a folder.

    Returns:
        (1, I, J, K) with I along columns, J along rows, K along the normal; as stored, or float32 after rescaling.

    Raises:
        ImageFileError: If there is no series or several, or pixels cannot be decoded.
        GeometryError: If the slices do not make a regular grid; see `slices`.
    """
    frames, grid = _series(path)
    columns, rows, count = grid.shape
    types = {(frame.header.get("BitsAllocated"), frame.header.get("PixelRepresentation")) for frame in frames}
    plain = len(types) == 1 and all((frame.slope, frame.intercept) == (1.0, 0.0) for frame in frames)
    array: NDArray[Any] | None = None
    decoded: tuple[Path, NDArray[Any]] | None = None
    for number, frame in enumerate(frames):
        if decoded is None or decoded[0] != frame.file:
            decoded = frame.file, _pixels(frame, number, count)
        pixels = decoded[1][frame.index]
        if pixels.shape != (rows, columns):
            raise ImageFileError(f"DICOM series: image {number + 1} of {count} has pixels of shape {pixels.shape}")
        if array is None:
            array = np.empty((count, rows, columns), dtype=pixels.dtype if plain else np.float32)
        if plain:
            array[number] = pixels
        else:
            np.multiply(pixels, frame.slope, out=array[number], casting="unsafe")
            array[number] += np.float32(frame.intercept)
    assert array is not None  # a series has at least one frame
    return Volume(array.transpose(2, 1, 0)[None], grid)


@_without_validation
def read_grid(path: Path) -> tuple[int, Grid]:
    """Number of channels (always 1) and grid of the one series in a folder; pixels are not read."""
    return 1, _series(path)[1]


def write_series(folder: Path, array: NDArray[np.int16], grid: Grid, *, modality: str = "MR", seed: int) -> None:
    """Write a synthetic series: one file per slice along K, no patient in it, file names in random order.

    Args:
        folder: Made if needed.
        array: int16 (I, J, K).
        grid: Of the array; its axes must be perpendicular. A reader that sorts along the normal may return K reversed,
            on the grid that belongs to it.
        modality: ``MR`` or ``CT``.
        seed: Same seed, same identifiers and names.

    Raises:
        GeometryError: If the grid is not 3-D, or sheared.
    """
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.matrix
    directions = lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)
    if grid.ndim != 3 or not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        raise GeometryError(f"a DICOM series needs three perpendicular axes, got {grid.affine[:3]}")
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(seed).permutation(grid.shape[2])
    study, series, frame = (generate_uid(entropy_srcs=[kind, str(seed)]) for kind in ("study", "series", "frame"))
    for index in range(grid.shape[2]):
        image = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
        image.SOPClassUID = {"MR": MRImageStorage, "CT": CTImageStorage}[modality]
        image.SOPInstanceUID = generate_uid(entropy_srcs=["image", str(seed), str(index)])
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.Modality, image.ImageType = modality, ["ORIGINAL", "PRIMARY", "OTHER"]
        image.PatientName, image.PatientID = "SYNTHETIC", f"SYNTHETIC-{seed}"
        image.SeriesNumber, image.InstanceNumber = 1, index + 1
        image.Rows, image.Columns, image.SamplesPerPixel = grid.shape[1], grid.shape[0], 1
        image.PhotometricInterpretation, image.PixelRepresentation = "MONOCHROME2", 1
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.RescaleSlope, image.RescaleIntercept = 1, 0
        image.PixelSpacing = [format_number_as_ds(grid.spacing_mm[1]), format_number_as_ds(grid.spacing_mm[0])]
        image.SliceThickness = image.SpacingBetweenSlices = format_number_as_ds(grid.spacing_mm[2])
        image.ImageOrientationPatient = [format_number_as_ds(cosine) for cosine in directions[:, :2].T.ravel()]
        image.ImagePositionPatient = [format_number_as_ds(mm) for mm in lps[:3, 3] + index * lps[:3, 2]]
        image.PixelData = np.ascontiguousarray(array[:, :, index].T, dtype="<i2").tobytes()
        image.save_as(folder / f"{names[index]:06d}.dcm", enforce_file_format=True)


def _series(folder: Path) -> tuple[list[_Frame], Grid]:
    """The frames of a folder's one series in the order of axis K, and their grid."""
    kept: list[tuple[Path, Dataset]] = []
    left_out: Counter[str] = Counter()
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            header, reason = _header(file)
            if header is None:
                left_out[reason] += 1
            else:
                kept.append((file, header))
    if not kept:
        raise ImageFileError(f"DICOM series: no image in the folder; left out: {_counted(left_out) or 'nothing'}")
    series = Counter(str(header.get("SeriesInstanceUID")) for _, header in kept)
    if len(series) > 1:
        first = {str(header.get("SeriesInstanceUID")): header for _, header in reversed(kept)}
        listed = ", ".join(f"{count} {_kind(first[uid])}" for uid, count in series.most_common())
        raise ImageFileError(
            f"DICOM series: SEVERAL_SERIES: expected one, got {len(series)} ({listed}): give each a folder of its own"
        )
    try:
        frames = [frame for file, header in kept for frame in _frames(file, header)]
    except (ValueError, TypeError) as error:
        raise ImageFileError("DICOM series: a header holds text where a number belongs") from error
    try:
        order, grid = stack([frame.place for frame in frames])
    except GeometryError as error:
        if "DUPLICATE" in str(error) and (differing := _differing(header for _, header in kept)):
            raise GeometryError(f"{error}; their {', '.join(differing)} differ") from error
        raise
    return [frames[index] for index in order], grid


def _kind(header: Dataset) -> str:
    """What tells series apart and names nobody."""
    return f"{header.get('Modality') or 'unknown'} images of {header.get('Columns')}x{header.get('Rows')}"


def _header(file: Path) -> tuple[Dataset | None, str]:
    """What is needed of a header, or None and the reason for leaving the file out."""
    try:
        header = dcmread(file, stop_before_pixels=True, specific_tags=_HEADER)
    except InvalidDicomError as error:
        # A slice that was cut off while it was copied must not vanish from the end of the stack.
        if file.suffix.lower() == ".dcm":
            raise ImageFileError("DICOM series: a file named .dcm is empty or holds no DICOM") from error
        return None, "not DICOM"
    except _UNDECODABLE as error:
        raise ImageFileError("DICOM series: the header of a file is damaged") from error
    if "Rows" not in header and "Image Storage" in UID(header.file_meta.get("MediaStorageSOPClassUID", "")).name:
        raise ImageFileError("DICOM series: an image is cut off inside its header")
    if "Rows" not in header or header.get("Modality") in _NO_IMAGE_MODALITIES:
        return None, f"{header.get('Modality') or 'DICOMDIR or other'} object"
    if "LOCALIZER" in (header.get("ImageType") or ()):
        return None, "localizer"
    return header, ""


def _frames(file: Path, header: Dataset) -> Iterable[_Frame]:
    if header.get("SamplesPerPixel", 1) != 1:
        raise ImageFileError("DICOM series: colour images are not supported")
    if "ModalityLUTSequence" in header:
        raise ImageFileError("DICOM series: a lookup table in place of a rescale slope is not supported")
    if header.get("PerFrameFunctionalGroupsSequence"):
        shared = _flattened(header.get("SharedFunctionalGroupsSequence") or ())
        for index, group in enumerate(header.PerFrameFunctionalGroupsSequence):
            yield _frame(file, index, {**shared, **_flattened([group])}, header)
    elif int(header.get("NumberOfFrames") or 1) > 1:
        raise ImageFileError("DICOM series: MULTIFRAME: an image of several frames that does not say where they lie")
    else:
        yield _frame(file, 0, {element.keyword: element.value for element in header}, header)


def _flattened(groups: Iterable[Dataset]) -> dict[str, Any]:
    """The attributes inside the one-item sequences of functional groups."""
    return {
        inner.keyword: inner.value
        for group in groups
        for macro in group
        if macro.VR == "SQ" and macro.value
        for inner in macro.value[0]
    }


def _frame(file: Path, index: int, values: dict[str, Any], header: Dataset) -> _Frame:
    if lacking := [keyword for keyword in _PLANAR if not values.get(keyword)]:
        raise GeometryError(f"NO_POSITION: an image has no {' and no '.join(lacking)}")
    position, orientation, spacing = (tuple(map(float, values[keyword])) for keyword in _PLANAR)
    if (len(position), len(orientation), len(spacing)) != (3, 6, 2):
        raise GeometryError(f"NO_POSITION: {position}, {orientation}, {spacing} are not 3, 6 and 2 numbers")
    thickness = values.get("SpacingBetweenSlices") or values.get("SliceThickness")
    place = Slice(
        shape=(int(header.Rows), int(header.Columns)),
        position=position,
        orientation=orientation,
        spacing=spacing,
        thickness=None if thickness is None else abs(float(thickness)),
    )
    slope, intercept = values.get("RescaleSlope"), values.get("RescaleIntercept")
    return _Frame(file, index, place, 1.0 if slope is None else float(slope), float(intercept or 0), header)


def _pixels(frame: _Frame, number: int, count: int) -> NDArray[Any]:
    """All frames of a file, (frame, row, column), as stored but for MONOCHROME1, which is inverted."""
    syntax = "damaged file"
    try:
        image = dcmread(frame.file)
        syntax = image.file_meta.TransferSyntaxUID.name
        pixels: NDArray[Any] = image.pixel_array
    except _UNDECODABLE as error:
        raise ImageFileError(f"DICOM series: image {number + 1} of {count} cannot be decoded ({syntax})") from error
    if frame.header.get("PhotometricInterpretation") == "MONOCHROME1":
        top = (1 << int(image.BitsStored)) - 1 if image.PixelRepresentation == 0 else -1
        pixels = (top - pixels.astype(np.int32)).astype(pixels.dtype)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return pixels if pixels.ndim == 3 else pixels[None]


def _differing(headers: Iterable[Dataset]) -> list[str]:
    """Attributes that tell phases of one series apart."""
    found = list(headers)
    return [keyword for keyword in _PHASES if len({str(header.get(keyword)) for header in found}) > 1]


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())
