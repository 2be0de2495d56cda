"""The parts that formats of pictures share: limit of size, orientation of display, and colour tables."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ImageFileError

MAX_PIXELS = 1 << 28
"""Pixels of one picture, 16384 x 16384: it is held in memory whole, several times over."""
ORIENTATION = 274
"""Tag of the orientation in EXIF and TIFF."""
TURNED = (5, 6, 7, 8)
"""Orientations of EXIF and TIFF that exchange columns and rows."""


def refuse_huge(columns: int, rows: int) -> None:
    """See that a picture can be held in memory.

    Raises:
        ImageFileError: If it has more than `MAX_PIXELS` pixels, or none.
    """
    if columns < 1 or rows < 1:
        raise ImageFileError(f"the picture has no pixels ({columns} x {rows})")
    if columns * rows > MAX_PIXELS:
        side = int(MAX_PIXELS**0.5)
        raise ImageFileError(
            f"the picture has {columns} x {rows} pixels; at most {MAX_PIXELS:,} ({side} x {side}) are read"
        )


def as_shown(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn stored rows and columns as viewers show them.

    Args:
        array: (..., rows, columns, samples).
        orientation: 1 to 8, as `ORIENTATION` says in EXIF and TIFF; others mean no turn.

    Returns:
        A view of the same axes; columns and rows are exchanged where `orientation` is one of `TURNED`.
    """
    if orientation in TURNED:
        array = np.moveaxis(array, -3, -2)
    if orientation in (3, 4, 7, 8):
        array = np.flip(array, -3)
    if orientation in (2, 3, 6, 7):
        array = np.flip(array, -2)
    return array


def colours_of(table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Drop what a table of colours repeats.

    Args:
        table: Red, green and blue of each index, (entries, 3).

    Returns:
        The table, or its first column, (entries, 1), if all of its colours are grey.
    """
    return table[:, :1] if (table == table[:, :1]).all() else table


def painted(indices: NDArray[Any], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace indices by colours.

    Args:
        indices: (..., rows, columns, 1).
        table: Colour table, as `colours_of` returns it.

    Returns:
        (..., rows, columns, channels of the table).

    Raises:
        ImageFileError: If an index has no colour.
    """
    if (highest := int(indices.max())) >= len(table):
        raise ImageFileError(f"damaged: colour {highest} is used, but its table has {len(table)} colours")
    colours: NDArray[np.uint8] = table[indices[..., 0]]
    return colours


def colour_hint(expected: int, found: int, axes: int) -> str:
    """Advice where an image has other channels than expected; empty where it is no grey picture among colour ones.

    A grey one is not taken for colour by itself: it may as well be one stain of several.
    """
    if axes != 2 or {expected, found} != {1, 3}:
        return ""
    return "; save pictures alike: in Pillow, Image.open(NAME).convert('RGB').save(NAME) makes grey ones colour ones"
