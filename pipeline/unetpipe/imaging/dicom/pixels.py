"""The intensities of a volume: the pixels of its frames, in the meaning that each frame says."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.attributes import number
from unetpipe.imaging.dicom.decoding import PIXEL_TYPE, damage_to, decode_file, read_stored
from unetpipe.imaging.dicom.frames import Frame
from unetpipe.imaging.dicom.sources import DicomFile
from unetpipe.imaging.dicom.values import Meaning

_READERS = 4
"""Threads that read files: more than many machines have cores, since they wait for the disk."""
_INT16 = np.iinfo(np.int16)
_Put = Callable[[NDArray[Any], Meaning, NDArray[Any]], None]
"""Gives pixels (row, column) their meaning, in an array of the same shape."""


class _DoesNotFitError(Exception):
    """A value is outside the integers of 16 bits."""


def read_pixels(frames: Sequence[Frame]) -> NDArray[Any]:
    """Decode frames and give their values the meaning that each says.

    Args:
        frames: Frames of one shape, in the order of the result; each file is decoded once.

    Returns:
        (K, J, I): frame, row, column. As stored where values mean themselves; int16 where a whole number is added to
        them, as in CT, and all sums fit; else float32.

    Raises:
        ImageFileError: If pixels cannot be decoded, or have another shape than their header says.
    """
    types = {tuple(number(frame.image.data, key) for key in PIXEL_TYPE) for frame in frames}
    if len(types) == 1 and all(frame.meaning.is_plain for frame in frames):
        return _read(frames, None, _copy)
    bits, _ = next(iter(types))
    if len(types) == 1 and bits in (8, 16) and all(frame.meaning.is_shift for frame in frames):
        try:
            return _read(frames, np.dtype(np.int16), _shift)
        except _DoesNotFitError:
            pass
    return _read(frames, np.dtype(np.float32), _rescale)


def _read(frames: Sequence[Frame], dtype: np.dtype[Any] | None, put: _Put) -> NDArray[Any]:
    """Read frames into one array, in the type in which they are stored unless another is given.

    Threads read the files, straight into the array where pixels are stored as they are: what takes time is waiting for
    the disk, decompressing and copying, and none of it holds Python's lock.
    """
    of_file: dict[DicomFile, list[int]] = {}
    for index, frame in enumerate(frames):
        of_file.setdefault(frame.image.file, []).append(index)
    first, *others = of_file.values()
    decoded = decode_file(frames[first[0]], _which(first, frames))
    shape = frames[0].place.shape
    array = np.empty((len(frames), *shape), dtype=dtype or decoded.dtype)

    def place(decoded: NDArray[Any], indices: Sequence[int]) -> None:
        for index in indices:
            pixels = _cut(decoded, frames[index])
            if pixels.shape != shape:
                raise ImageFileError(f"image {index + 1} of {len(frames)} has pixels of shape {pixels.shape}")
            put(pixels, frames[index].meaning, array[index])

    def read_in_place(index: int) -> bool:
        frame, out = frames[index], array[index]
        if out.dtype.kind == "f" or out.itemsize != decoded.itemsize or frame.corner or frame.meaning.inverted:
            return False
        stored = out.view(decoded.dtype)
        with damage_to(frame, _which([index], frames)):
            found = read_stored(frame.image, stored)
        if found and put is not _copy:
            put(stored, frame.meaning, out)
        return found

    def read(indices: Sequence[int]) -> None:
        if len(indices) > 1 or not read_in_place(indices[0]):
            place(decode_file(frames[indices[0]], _which(indices, frames)), indices)

    place(decoded, first)
    with ThreadPoolExecutor(_READERS) as threads:
        for _ in threads.map(read, others):
            pass
    return array


def _which(indices: Sequence[int], frames: Sequence[Frame]) -> str:
    return f"image {indices[0] + 1} of {len(frames)}"


def _copy(pixels: NDArray[Any], _meaning: Meaning, out: NDArray[Any]) -> None:
    out[...] = pixels


def _shift(pixels: NDArray[Any], meaning: Meaning, out: NDArray[np.int16]) -> None:
    by = int(meaning.intercept)
    if int(pixels.min()) + by < _INT16.min or int(pixels.max()) + by > _INT16.max:
        raise _DoesNotFitError
    # sums of 16 bits are right where they fit, whether or not the bits have a sign
    np.add(pixels.view(np.int16) if pixels.itemsize == 2 else pixels, np.int16(by), out=out)


def _rescale(pixels: NDArray[Any], meaning: Meaning, out: NDArray[np.float32]) -> None:
    np.multiply(pixels, meaning.slope, out=out, casting="unsafe")
    out += np.float32(meaning.intercept)


def _cut(pixels: NDArray[Any], frame: Frame) -> NDArray[Any]:
    if frame.index >= len(pixels):
        raise ImageFileError(f"an image has pixels of {len(pixels)} frames, fewer than its header says")
    picture: NDArray[Any] = pixels[frame.index]
    if frame.corner is None:
        return picture
    (row, column), (rows, columns) = frame.corner, frame.place.shape
    return picture[row : row + rows, column : column + columns]
