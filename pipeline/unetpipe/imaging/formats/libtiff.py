"""Pages of TIFF files that tifffile leaves to other libraries, decompressed by the libtiff inside Pillow.

Each strip or tile becomes a TIFF file of one strip in memory. Where the compression knows nothing of pixels, as LZW,
its rows are handed over as bytes, so that any bits and samples pass through what Pillow reads as 8-bit grey.
"""

import io
import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin
from tifffile import COMPRESSION, PHOTOMETRIC, TiffPage, TiffPageSeries

_BILEVEL = (COMPRESSION.CCITTRLE, COMPRESSION.CCITT_T4, COMPRESSION.CCITT_T6)
COMPRESSIONS = (COMPRESSION.LZW, COMPRESSION.ZSTD, COMPRESSION.JPEG, *_BILEVEL)
_SHORT, _LONG, _BYTES = 3, 4, 7  # types of a tag's value
_PASSED_ON = {266: _SHORT, 292: _LONG, 293: _LONG, 347: _BYTES, 530: _SHORT}
"""Tags that say how bytes are compressed: FillOrder, T4Options, T6Options, JPEGTables, YCbCrSubSampling."""


def decoded(series: TiffPageSeries) -> NDArray[Any]:
    """Read the numbers of all pages; YCbCr of JPEG comes out as RGB.

    Returns:
        Of the shape and type of the series.

    Raises:
        OSError, ValueError, SyntaxError: If bytes are damaged or missing.
    """
    key = series.keyframe
    _, depth, rows, columns, _ = key.shaped
    if depth != 1:
        raise ValueError("tiles that are volumes are not supported")
    pages = np.empty((len(series.pages), *key.shaped), series.dtype)
    for page, target in zip(series.pages, pages, strict=True):
        segments = zip(page.dataoffsets, page.databytecounts, _segments(key), strict=True)  # type: ignore[union-attr]  # none is missing
        for offset, size, (plane, y, x, height, width) in segments:
            key.parent.filehandle.seek(offset)
            numbers = _numbers(key.parent.filehandle.read(size), key, height, width)
            target[plane, 0, y : y + height, x : x + width] = numbers[: rows - y, : columns - x]
    return pages.reshape(series.shape)


def _segments(page: TiffPage) -> Iterator[tuple[int, int, int, int, int]]:
    """Plane, first row, first column, rows and columns of each strip or tile, in the order of the file."""
    planes, _, rows, columns, _ = page.shaped
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, columns)
    for plane in range(planes):
        for y in range(0, rows, height):
            for x in range(0, columns, width):
                yield plane, y, x, height if page.is_tiled else min(height, rows - y), width


def _numbers(data: bytes, page: TiffPage, rows: int, columns: int) -> NDArray[Any]:
    """The numbers of one strip or tile, (rows, columns, samples)."""
    samples, bits = page.shaped[-1], page.bitspersample
    if page.compression != COMPRESSION.NONE:
        data = _decompressed(data, page, rows, columns)
    if bits < 8:
        row_bytes = math.ceil(columns * samples * bits / 8)
        single = np.unpackbits(np.frombuffer(data, np.uint8, rows * row_bytes)).reshape(rows, -1, bits)
        values = np.packbits(single, axis=-1, bitorder="big")[..., 0] >> (8 - bits)
        return values[:, : columns * samples].reshape(rows, columns, samples)
    stored = np.dtype(f"{page.parent.byteorder}u{bits // 8}")
    numbers = np.frombuffer(data, stored, rows * columns * samples).reshape(rows, columns, samples)
    if page.predictor == 2:
        numbers = np.cumsum(numbers, axis=1, dtype=stored.newbyteorder("="))
    return numbers.astype(stored.newbyteorder("="), copy=False).view(np.dtype(page.dtype))


def _decompressed(data: bytes, page: TiffPage, rows: int, columns: int) -> bytes:
    """Rows of samples as they would stand in the file without compression."""
    samples, bits, photometric = page.shaped[-1], 8, int(PHOTOMETRIC.MINISBLACK)
    if page.compression == COMPRESSION.JPEG:
        photometric = int(page.photometric) if samples > 1 else photometric
    elif page.compression in _BILEVEL:
        bits = 1
    else:
        columns, samples = math.ceil(columns * samples * page.bitspersample / 8), 1
    tags: list[tuple[int, int, bytes | tuple[int, ...]]] = [
        (256, _LONG, (columns,)),
        (257, _LONG, (rows,)),
        (258, _SHORT, (bits,) * samples),
        (259, _SHORT, (int(page.compression),)),
        (262, _SHORT, (photometric,)),
        (273, _LONG, (8,)),
        (277, _SHORT, (samples,)),
        (278, _LONG, (rows,)),
        (279, _LONG, (len(data),)),
    ]
    for code, kind in _PASSED_ON.items():
        if (value := page.tags.valueof(code)) is not None:
            tags.append((code, kind, value if isinstance(value, bytes | tuple) else (int(value),)))
    with TiffImagePlugin.TiffImageFile(io.BytesIO(_file(data, sorted(tags)))) as picture:
        pixels = np.asarray(picture)
    return (np.packbits(pixels, axis=1) if bits == 1 else pixels).tobytes()


def _file(data: bytes, tags: list[tuple[int, int, bytes | tuple[int, ...]]]) -> bytes:
    """A TIFF file: its header, the strip, the directory, and the values that are too long for the directory."""
    start = 8 + len(data) + len(data) % 2
    end = start + 2 + 12 * len(tags) + 4
    directory, values = struct.pack("<H", len(tags)), b""
    for code, kind, value in tags:
        packed = value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{'HI'[kind - _SHORT]}", *value)
        directory += struct.pack("<HHI", code, kind, len(value))
        if len(packed) <= 4:
            directory += packed.ljust(4, b"\0")
        else:
            directory += struct.pack("<I", end + len(values))
            values += packed + b"\0" * (len(packed) % 2)
    return b"II*\0" + struct.pack("<I", start) + data + b"\0" * (len(data) % 2) + directory + bytes(4) + values
