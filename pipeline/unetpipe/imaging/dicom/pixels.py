"""Decoding the pixels of frames to intensities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import JPEGExtended12Bit

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.attributes import damage
from unetpipe.imaging.dicom.frames import Frame
from unetpipe.imaging.dicom.headers import read_dataset


def read_pixels(frames: Sequence[Frame]) -> NDArray[Any]:
    """Decode frames and give their values the meaning that each says.

    Args:
        frames: Of one shape; those of one file are best in a row, so that it is decoded once.

    Returns:
        (K, J, I): frame, row, column; as stored where all frames have one type and no slope, else float32.

    Raises:
        ImageFileError: If pixels cannot be decoded, or have another shape than their header says.
    """
    rows, columns = frames[0].place.shape
    types = {(frame.image.data.get("BitsAllocated"), frame.image.data.get("PixelRepresentation")) for frame in frames}
    plain = len(types) == 1 and all(frame.meaning.is_plain for frame in frames)
    array: NDArray[Any] | None = None
    decoded: tuple[object, NDArray[Any]] | None = None
    for number, frame in enumerate(frames):
        if decoded is None or decoded[0] != frame.image.file:
            decoded = frame.image.file, _decode(frame, f"image {number + 1} of {len(frames)}")
        pixels = _cut(decoded[1], frame)
        if pixels.shape != (rows, columns):
            raise ImageFileError(f"image {number + 1} of {len(frames)} has pixels of shape {pixels.shape}")
        if array is None:
            array = np.empty((len(frames), rows, columns), dtype=pixels.dtype if plain else np.float32)
        if plain:
            array[number] = pixels
        else:
            np.multiply(pixels, frame.meaning.slope, out=array[number], casting="unsafe")
            array[number] += np.float32(frame.meaning.intercept)
    assert array is not None  # there is at least one frame
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
    """All frames of a file, (frame, row, column), in the machine's byte order."""
    syntax = frame.image.syntax
    with damage(f"{which} cannot be decoded ({syntax.name})"):
        data, _ = read_dataset(frame.image.file, pixels=True)
        is_12_bit = syntax == JPEGExtended12Bit and data.BitsStored > 8
        pixels = _decode_12_bit_jpeg(data) if is_12_bit else data.pixel_array
        if data.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, data)[..., 0]  # red, green and blue are equal, or it were refused
        if frame.meaning.inverted:
            top = (1 << int(data.BitsStored)) - 1 if data.PixelRepresentation == 0 else -1
            pixels = (top - pixels.astype(np.int32)).astype(pixels.dtype)
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return pixels if pixels.ndim == 3 else pixels[None]


def _decode_12_bit_jpeg(data: Dataset) -> NDArray[np.uint16]:
    """Decode JPEG Extended of 12 bits by GDCM itself: pydicom's use of it leaves these out."""
    import gdcm

    count, rows, columns = int(data.get("NumberOfFrames") or 1), data.Rows, data.Columns
    frames = []
    for index in range(count):
        fragment = gdcm.Fragment()
        fragment.SetByteStringValue(get_frame(data.PixelData, index, number_of_frames=count))
        fragments = gdcm.SequenceOfFragments.New()
        fragments.AddFragment(fragment)
        element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
        element.SetValue(fragments.__ref__())
        image = gdcm.Image()
        image.SetNumberOfDimensions(2)
        image.SetDimensions((columns, rows, 1))
        image.SetDataElement(element)
        monochrome = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
        image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(monochrome))
        image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))))
        image.SetPixelFormat(gdcm.PixelFormat(1, 16, data.BitsStored, data.BitsStored - 1, data.PixelRepresentation))
        buffer = image.GetBuffer().encode("utf-8", "surrogateescape")  # gdcm gives bytes as text
        frames.append(np.frombuffer(buffer, "<u2").reshape(rows, columns))
    return np.stack(frames)
