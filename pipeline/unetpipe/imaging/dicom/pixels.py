"""Decoding the pixels of frames to intensities."""

from collections.abc import Sequence
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.attributes import damage, number, text
from unetpipe.imaging.dicom.frames import Frame
from unetpipe.imaging.dicom.headers import Image, read_dataset
from unetpipe.imaging.dicom.sources import DicomFile

_PIXEL_TYPE = ("BitsAllocated", "PixelRepresentation")
_PIXEL_DATA = b"\xe0\x7f\x10\x00"  # the tag, little endian
_DESCRIPTION = (
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation"),
)
_PLUGINS = {
    RLELossless: "pydicom",
    JPEGBaseline8Bit: "pillow",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
}
"""Which of pydicom's decoders reads each compressed syntax; ITK reads the others."""


def read_pixels(frames: Sequence[Frame]) -> NDArray[Any]:
    """Decode frames and give their values the meaning that each says.

    Args:
        frames: Frames of one shape, in the order of the result; each file is decoded once.

    Returns:
        (K, J, I): frame, row, column; as stored where all frames have one type and no slope, else float32.

    Raises:
        ImageFileError: If pixels cannot be decoded, or have another shape than their header says.
    """
    rows, columns = frames[0].place.shape
    types = {tuple(number(frame.image.data, key) for key in _PIXEL_TYPE) for frame in frames}
    plain = len(types) == 1 and all(frame.meaning.is_plain for frame in frames)
    of_file: dict[DicomFile, list[int]] = {}
    for index, frame in enumerate(frames):
        of_file.setdefault(frame.image.file, []).append(index)
    array = np.empty((0, rows, columns))
    for indices in of_file.values():
        decoded = _decode(frames[indices[0]], f"image {indices[0] + 1} of {len(frames)}")
        if not len(array):
            array = np.empty((len(frames), rows, columns), dtype=decoded.dtype if plain else np.float32)
        for index in indices:
            pixels, meaning = _cut(decoded, frames[index]), frames[index].meaning
            if pixels.shape != (rows, columns):
                raise ImageFileError(f"image {index + 1} of {len(frames)} has pixels of shape {pixels.shape}")
            if plain:
                array[index] = pixels
            else:
                np.multiply(pixels, meaning.slope, out=array[index], casting="unsafe")
                array[index] += np.float32(meaning.intercept)
    return array


def _cut(pixels: NDArray[Any], frame: Frame) -> NDArray[Any]:
    if frame.index >= len(pixels):
        raise ImageFileError(f"an image has pixels of {len(pixels)} frames, fewer than its header says")
    picture: NDArray[Any] = pixels[frame.index]
    if frame.corner is None:
        return picture
    (row, column), (rows, columns) = frame.corner, frame.place.shape
    return picture[row : row + rows, column : column + columns]


def _decode(frame: Frame, which: str) -> NDArray[Any]:
    """Values of all frames of a file, (frame, row, column), looked up and inverted where that gives them a meaning."""
    syntax = frame.image.syntax
    encoding = syntax.name if syntax.is_transfer_syntax else "unknown transfer syntax"
    with damage(f"{which} cannot be decoded ({encoding})"):
        if (stored := _stored(frame.image)) is not None and not frame.meaning.inverted:
            return stored
        data, _ = read_dataset(frame.image.file)
        pixels = decode(data, syntax)
        if data.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, data)[..., 0]  # red, green and blue are equal, or it were refused
        if frame.meaning.inverted:
            top = (1 << int(data.BitsStored)) - 1 if data.PixelRepresentation == 0 else -1
            pixels = (top - pixels.astype(np.int32)).astype(pixels.dtype)
    return pixels


def _stored(image: Image) -> NDArray[Any] | None:
    """Pixels that lie in the file as they are, read without parsing it again; None where they are of another kind.

    This takes a third of the time of pydicom's way, and nearly all scans are stored so.
    """
    header = image.data
    bits, signed, count = (number(header, key) for key in (*_PIXEL_TYPE, "NumberOfFrames"))
    rows, columns = (int(number(header, key) or 0) for key in ("Rows", "Columns"))
    explicit = image.syntax == ExplicitVRLittleEndian
    plain = text(header, "PhotometricInterpretation").startswith("MONOCHROME") and bits in (8, 16)
    if not plain or signed is None or image.syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        return None
    kind = np.dtype(f"<{'i' if signed else 'u'}{int(bits or 0) // 8}")
    frames = int(count or 1)
    start, size = image.header_bytes + (12 if explicit else 8), frames * rows * columns * kind.itemsize
    with image.file.open() as stream:
        stream.seek(image.header_bytes)
        content = stream.read(start - image.header_bytes + size)
    if content[:4] != _PIXEL_DATA or len(content) != start - image.header_bytes + size:
        return None
    if int.from_bytes(content[8:12] if explicit else content[4:8], "little") - size not in (0, 1):
        return None  # a length of its own kind is for pydicom to judge
    stored = np.frombuffer(content, kind, offset=start - image.header_bytes).reshape(frames, rows, columns)
    return stored.astype(kind.newbyteorder("="), copy=False)


def decode(data: Dataset, syntax: UID) -> NDArray[Any]:
    """Stored values of all frames of a grey file, (frame, row, column), in the machine's byte order.

    Raises:
        Exception: Of any kind, if pixels are damaged: to be called within `damage`.
    """
    if syntax.is_encapsulated and syntax not in _PLUGINS:
        pixels = _decode_by_itk(data, syntax)
    else:
        pixels = pixel_array(data, decoding_plugin=_PLUGINS.get(syntax, ""))
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return pixels if pixels.ndim == 3 else pixels[None]


def _decode_by_itk(data: Dataset, syntax: UID) -> NDArray[Any]:
    """Decode the kinds of JPEG that no library under a permissive licence decodes for pydicom without risk.

    GDCM's own Python module does, but ends the process where a stream is damaged. ITK reads a file that has the pixels
    and what describes them, and nothing else: it would apply a rescale.
    """
    import SimpleITK as sitk  # noqa: N813 - as its documentation has it

    plain = Dataset()
    for keyword in (*_DESCRIPTION, "PixelData"):
        if keyword in data:
            plain[keyword] = data[keyword]
    plain.SOPClassUID, plain.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    plain.file_meta = FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = syntax
    with NamedTemporaryFile(suffix=".dcm") as file:
        plain.save_as(file, enforce_file_format=True)
        file.flush()
        pixels: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(file.name))
    return pixels
