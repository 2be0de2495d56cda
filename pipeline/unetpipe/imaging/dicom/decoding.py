"""Decoding the pixels of one file to stored values."""

import sys
from math import prod
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
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.attributes import damage, number, text
from unetpipe.imaging.dicom.codestreams import refuse_other_sizes
from unetpipe.imaging.dicom.frames import Frame
from unetpipe.imaging.dicom.headers import Image, read_dataset

PIXEL_TYPE = ("BitsAllocated", "PixelRepresentation")
"""What the type of stored values follows from."""
_PIXEL_DATA = b"\xe0\x7f\x10\x00"  # the tag, little endian
_DESCRIPTION = (
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation"),
)
_PLUGINS = {
    RLELossless: "pydicom",
    JPEGBaseline8Bit: "pillow",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
}
"""Which of pydicom's decoders reads each compressed syntax; ITK reads the others."""
_LOSSLESS = (
    *(RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless),
    *(JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL),
)


def refuse_loss(syntax: UID) -> None:
    """See that a transfer syntax keeps every value, as labels need it.

    Raises:
        ImageFileError: If it compresses, and is not known to do so without loss.
    """
    if syntax.is_transfer_syntax and syntax.is_encapsulated and syntax not in _LOSSLESS:
        raise ImageFileError(f"labels stored with loss ({syntax.name}), which invents values")


def decode_file(frame: Frame, which: str) -> NDArray[Any]:
    """Values of all frames of a file, (frame, row, column), looked up and inverted where that gives them a meaning.

    Args:
        frame: One of its frames.
        which: Name of the image in messages.

    Raises:
        ImageFileError: If pixels cannot be decoded.
    """
    syntax = frame.image.syntax
    with damage_to(frame, which):
        if (stored := _stored(frame.image)) is not None and not frame.meaning.inverted:
            return stored
        data, _ = read_dataset(frame.image.file)
        pixels = decode(data, syntax)
        if frame.meaning.looked_up:
            pixels = apply_color_lut(pixels, data)[..., 0]  # red, green and blue are equal, or it were refused
        if frame.meaning.inverted:
            top = (1 << int(data.BitsStored)) - 1 if data.PixelRepresentation == 0 else -1
            pixels = (top - pixels.astype(np.int32)).astype(pixels.dtype)
    return pixels


def damage_to(frame: Frame, which: str) -> damage:
    """A context that says of damage which image cannot be decoded, and how its pixels are encoded."""
    syntax = frame.image.syntax
    encoding = syntax.name if syntax.is_transfer_syntax else "unknown transfer syntax"
    return damage(f"{which} cannot be decoded ({encoding})")


def _stored(image: Image) -> NDArray[Any] | None:
    """Pixels that lie in the file as they are, read without parsing it again; None where they are of another kind.

    This takes a third of the time of pydicom's way, and nearly all scans are stored so.
    """
    header = image.data
    bits, signed, count = (number(header, key) for key in (*PIXEL_TYPE, "NumberOfFrames"))
    rows, columns = (int(number(header, key) or 0) for key in ("Rows", "Columns"))
    shape = int(count or 1), rows, columns
    if signed is None or bits not in (8, 16) or prod(shape) * bits // 8 > image.file.size:
        return None
    array = np.empty(shape, f"{'i' if signed else 'u'}{int(bits) // 8}")
    return array if read_stored(image, array) else None


def read_stored(image: Image, out: NDArray[Any]) -> bool:
    """Read all pixels of a file into an array, if they are stored as they are.

    Args:
        image: Header of the file.
        out: As many values as the file has, of the type in which it stores them.

    Returns:
        Whether the pixels are of this kind and the file holds all of them; else `out` is as good as empty.
    """
    explicit = image.syntax == ExplicitVRLittleEndian
    is_grey = text(image.data, "PhotometricInterpretation").startswith("MONOCHROME")
    if not is_grey or image.syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        return False
    buffer = memoryview(out.reshape(-1).view(np.uint8).data)
    with image.file.open() as stream:
        stream.seek(image.header_bytes)
        element = stream.read(12 if explicit else 8)
        length = int.from_bytes(element[-4:], "little")
        if element[:4] != _PIXEL_DATA or length - len(buffer) not in (0, 1):
            return False  # a length of its own kind is for pydicom to judge
        while buffer and (count := stream.readinto(buffer)):  # type: ignore[attr-defined] # of every binary stream
            buffer = buffer[count:]
    if sys.byteorder == "big":
        out.byteswap(inplace=True)
    if buffer:
        return False
    _drop_unused_bits(image.data, out)
    return True


def _drop_unused_bits(header: Dataset, out: NDArray[Any]) -> None:
    """Bring the bits of a value to the right, and let those above repeat the sign.

    A value ends at HighBit and has BitsStored bits; the others may hold anything, such as an overlay (PS3.5, 8.1.1).

    Raises:
        ImageFileError: If there are not as many bits.
    """
    size = 8 * out.itemsize
    stored = int(number(header, "BitsStored") or 0)
    if not stored or out.dtype.kind == "f" or number(header, "BitsAllocated") == 1:  # which are unpacked by now
        return
    given = number(header, "HighBit")
    high = stored - 1 if given is None else int(given)
    if not stored - 1 <= high < size:
        raise ImageFileError(f"{stored} bits of a value cannot end at bit {high} of {size} (BitsStored, HighBit)")
    if stored < size:
        np.left_shift(out, size - 1 - high, out=out)
        np.right_shift(out, size - stored, out=out)


def decode(data: Dataset, syntax: UID) -> NDArray[Any]:
    """Stored values of all frames of a grey file, (frame, row, column), in the machine's byte order.

    Raises:
        Exception: Of any kind, if pixels are damaged: to be called within `damage`.
    """
    if syntax.is_encapsulated:
        refuse_other_sizes(data)
    if syntax.is_encapsulated and syntax not in _PLUGINS:
        pixels = _decode_by_itk(data, syntax)
    else:
        # its own correction takes every value to end at BitsStored
        pixels = pixel_array(data, decoding_plugin=_PLUGINS.get(syntax, ""), correct_unused_bits=False)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=not pixels.flags.writeable)
    if not syntax.is_encapsulated or syntax == RLELossless:  # which store all bits as they are
        _drop_unused_bits(data, pixels)
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
