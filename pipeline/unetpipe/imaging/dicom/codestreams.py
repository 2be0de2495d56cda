"""The size that a compressed picture itself states: decoders take memory by it, and not by the header of DICOM."""

import struct
from collections.abc import Iterator

from pydicom import Dataset
from pydicom.encaps import generate_frames

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.attributes import number

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # markers between those that begin a frame: tables, and one that is reserved
_JPEG_LS = 0xF7
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))


def refuse_other_sizes(data: Dataset) -> None:
    """See that each compressed frame of a file is as large as the file's header says.

    Raises:
        ImageFileError: If one states another size.
    """
    expected = tuple(int(number(data, keyword) or 0) for keyword in ("Rows", "Columns"))
    for frame in generate_frames(data.PixelData, number_of_frames=int(number(data, "NumberOfFrames") or 1)):
        if (found := stated_size(frame)) not in (None, expected):
            raise ImageFileError(f"a compressed frame has {found} rows and columns, the header says {expected}")


def stated_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a stream of JPEG, JPEG-LS or JPEG 2000 states; None where it states none, or is another."""
    if frame.startswith(_JPEG_2000) and len(frame) >= 24:
        columns, rows, left, top = struct.unpack_from(">4I", frame, 8)
        return rows - top, columns - left
    if frame.startswith(_JPEG):
        return next(_frame_sizes(frame), None)
    return None


def _frame_sizes(frame: bytes) -> Iterator[tuple[int, int]]:
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == _JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME):
            yield struct.unpack_from(">2H", frame, at + 5)
        length = 0 if marker in _WITHOUT_LENGTH else int.from_bytes(frame[at + 2 : at + 4], "big")
        at += 1 if marker == 0xFF else 2 + length  # a marker may have any number of 0xFF before it
