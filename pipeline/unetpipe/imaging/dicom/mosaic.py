"""Siemens' mosaics: one image that holds all slices of a volume side by side.

How many tiles there are and which way slices run stand in private attributes only: the number in (0019,100A), the
normal in the CSA header (0029,1010), whose layout is described at https://nipy.org/nibabel/dicom/siemens_csa.html.
"""

import contextlib
import math
import struct
from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.attributes import damage, private_value, texts
from unetpipe.imaging.dicom.slices import Slice

_TAG_BYTES, _ITEM_BYTES = 84, 16
_UNREASONABLE = 1000
"""More items than any tag of a CSA header has, or more tags than a header."""


def is_mosaic(data: Dataset) -> bool:
    """Whether an image says that it is a mosaic."""
    return "MOSAIC" in texts(data, "ImageType")


def tiles(data: Dataset, whole: Slice) -> list[tuple[tuple[int, int], Slice]]:
    """The slices of a mosaic.

    Args:
        data: Header of the image.
        whole: Position of the mosaic if it were one slice. Siemens writes the position that makes its centre the
            first tile's.

    Returns:
        (First row, first column) of each tile and where it lies.

    Raises:
        ImageFileError: If the private attributes are not there, or do not fit the image.
    """
    with damage("MOSAIC: the private header of a mosaic is damaged"):
        csa = dict(_csa_values(private_value(data, 0x0029, "SIEMENS CSA HEADER", 0x10) or b""))
        stated = private_value(data, 0x0019, "SIEMENS MR HEADER", 0x0A)
        count = int(stated or next(iter(csa.get("NumberOfImagesInMosaic", [])), 0))
        direction = np.array(csa.get("SliceNormalVector", []), dtype=np.float64)
    per_side = math.isqrt(count - 1) + 1 if count > 0 else 0
    if not count or len(direction) != 3 or abs(direction @ whole.normal) < 0.99:
        raise ImageFileError("MOSAIC: slices lie side by side in one image, and what places them is gone")
    gap = whole.gap or whole.thickness
    if whole.shape[0] % per_side or whole.shape[1] % per_side or not gap:
        raise ImageFileError(f"MOSAIC: an image of {whole.shape} rows and columns cannot hold {count} tiles")
    rows, columns = whole.shape[0] // per_side, whole.shape[1] // per_side
    along_row, down_column = whole.directions
    corner = np.array(whole.position)
    corner += along_row * whole.spacing[1] * (whole.shape[1] - columns) / 2
    corner += down_column * whole.spacing[0] * (whole.shape[0] - rows) / 2
    step = np.copysign(gap, direction @ whole.normal) * whole.normal
    found = []
    for number in range(count):
        position = tuple((corner + number * step).tolist())
        place = Slice(
            shape=(rows, columns),
            position=position,
            orientation=whole.orientation,
            spacing=whole.spacing,
            thickness=whole.thickness,
            gap=whole.gap,
        )
        found.append(((number // per_side * rows, number % per_side * columns), place))
    return found


def _csa_values(header: bytes) -> Iterator[tuple[str, list[float]]]:
    """Numeric values by name of a CSA header, of both versions."""
    if not header:
        return
    second_version = header[:4] == b"SV10"
    start = 8 if second_version else 0
    (count,) = struct.unpack_from("<I", header, start)
    at, items_of_first = start + 8, 0
    for number in range(min(count, _UNREASONABLE)):
        name, _, _, _, items, _ = struct.unpack_from("<64si4siii", header, at)
        at += _TAG_BYTES
        items_of_first = items if number == 0 else items_of_first
        values = []
        for _ in range(min(items, _UNREASONABLE)):
            first, second, _, _ = struct.unpack_from("<4i", header, at)
            length = second if second_version else first - items_of_first  # the first version adds them, none knows why
            at += _ITEM_BYTES
            written = header[at : at + length].split(b"\0")[0].strip()
            at += (length + 3) // 4 * 4
            with contextlib.suppress(ValueError):
                values.append(float(written))
        yield name.split(b"\0")[0].decode("latin-1"), values
