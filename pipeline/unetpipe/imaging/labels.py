"""Label maps as arrays of integers, whatever type a file stores them in. Needs no torch."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.label_target import LabelTarget
from unetpipe.imaging.files import is_dicom_source, read_volume
from unetpipe.imaging.formats.itk_header import read_text_header
from unetpipe.imaging.formats.segments import name_values, read_segments
from unetpipe.imaging.volume import Volume

SEVERAL_CHANNELS = "save the class of each voxel as one number, not as a colour or in a channel of its own"
"""What to do about a label map of several channels."""
_LONGEST_TABLE = 1 << 20
"""Label values with a wider range than this are found by binary search instead of in a table."""


def read_label_file(path: Path, target: LabelTarget | None = None) -> Volume:
    """Read a label map as its file has it, or draw a segmentation or structure set of DICOM.

    Of several channels that are equal, as where a program for painting saves a mask in grey as colours, one is taken.

    Args:
        path: File of the label map, or a DICOM source that holds one segmentation or structure set.
        target: Grid and classes that segments and contours of DICOM are drawn for; other files need none.

    Raises:
        ImageFileError: If it cannot be read, or is stored with loss.
        GeometryError: If its grid is unusable, or segments do not lie on the target's.
    """
    if is_dicom_source(path):
        from unetpipe.imaging.dicom.segmentations import read_segmentation

        if (drawn := read_segmentation(path, target)) is not None:
            return drawn
    volume = read_volume(path, as_label=True)
    first, *others = volume.array
    if not others or not all(np.array_equal(first, other) for other in others):
        return volume
    note = f"the {len(volume.array)} channels of the label are equal; one is taken"
    return replace(volume, array=volume.array[:1], notes=(*volume.notes, note))


def read_label_volume(path: Path, target: LabelTarget | None = None) -> Volume:
    """Read a label map in its file's own axis order.

    Args:
        path: Label map or DICOM source, as in `read_label_file`.
        target: Grid and classes, as in `read_label_file`.

    Returns:
        Integers of shape (1, I, J[, K]), in the file's own type where that is an integer type, and the file's grid.

    Raises:
        ImageFileError: If the file cannot be read, is stored with loss, has several channels that differ, or holds
            values that are not whole numbers.
        GeometryError: If its grid is unusable.
    """
    volume = read_label_file(path, target)
    if len(volume.array) != 1:
        raise ImageFileError(f"{path.name}: a label map has one channel, got {len(volume.array)}; {SEVERAL_CHANNELS}")
    try:
        return replace(volume, array=whole_numbers(volume.array))
    except ImageFileError as error:
        raise ImageFileError(f"{path.name}: {error}") from error


def read_label_names(path: Path) -> dict[int, str]:
    """Names of the values of a label map, from the header of a segmentation by 3D Slicer; none for other files."""
    if not path.name.lower().endswith(".nrrd"):
        return {}
    try:
        return name_values(read_segments(read_text_header(path).pairs))
    except (ImageFileError, OSError):  # as reading the file says
        return {}


def whole_numbers(values: NDArray[Any]) -> NDArray[np.integer]:
    """Give the values an integer type.

    Args:
        values: Any type and shape.

    Returns:
        The array itself if its type is an integer type, else a copy as int32.

    Raises:
        ImageFileError: If a value is a fraction, NaN, infinite or beyond 32 bits; names the first one.
    """
    if np.issubdtype(values.dtype, np.integer):
        return values
    with np.errstate(invalid="ignore"):  # what is not finite or too large comes out unequal
        whole: NDArray[np.integer] = values.astype(np.int32)
    if (unequal := whole != values).any():
        raise ImageFileError(f"label values must be whole numbers, got {values[unequal][0]}")
    return whole


def renumbered(labels: NDArray[np.integer], numbers: Mapping[int, int], other: int) -> NDArray[np.integer]:
    """Replace every label value by its number.

    Args:
        labels: Label values, any shape and strides.
        numbers: New number of each known value.
        other: Number of all values that are not in `numbers`.

    Returns:
        A new C-contiguous array of the same shape, in the smallest integer type that holds all numbers.
    """
    kind = np.result_type(*(np.min_scalar_type(number) for number in {other, *numbers.values()}))
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    result = np.empty(labels.shape, kind)
    if high - low > _LONGEST_TABLE:
        known = np.array(sorted(numbers), np.int64)
        images = np.array([numbers[value] for value in known.tolist()], kind)
        at = np.searchsorted(known, labels).clip(max=known.size - 1)
        result[...] = np.where(known[at] == labels, images[at], kind.type(other))
        return result
    table = np.full(high - low + 1, other, kind)
    for value, number in numbers.items():
        if low <= value <= high:
            table[value - low] = number
    for index in np.ndindex(labels.shape[:-2]):  # plane by plane, because numpy widens its index to 8 bytes a voxel
        plane = labels[index]
        result[index] = table[plane.astype(np.intp) - low if low else plane]
    return result
