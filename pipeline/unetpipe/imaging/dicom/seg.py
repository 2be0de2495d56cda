"""DICOM segmentations as label maps: binary, fractional and labelmap."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import UID

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.dicom.attributes import damage, items, number, text
from unetpipe.imaging.dicom.decoding import decode, refuse_loss
from unetpipe.imaging.dicom.frames import frame_attributes, place_of, stored_shape
from unetpipe.imaging.dicom.label_map import LabelMapBuilder, Segment
from unetpipe.imaging.dicom.label_target import LabelTarget
from unetpipe.imaging.dicom.slices import Slice, grid_of, mixture_of
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.size_limit import refuse_beyond_limit
from unetpipe.imaging.volume import Volume

_ON_GRID = 0.1
"""Greatest distance of a frame's pixels from the image's voxels, in voxels."""


def read_seg(data: Dataset, syntax: UID, target: LabelTarget | None) -> Volume:
    """Draw a segmentation into a label map.

    Args:
        data: Data set of the segmentation, with its pixels.
        syntax: Transfer syntax of the data set.
        target: Grid and classes; the segmentation's own grid and the numbers of its segments unless given.

    Returns:
        Integers of shape (1, I, J, K) on the target's grid.

    Raises:
        ImageFileError: If it is damaged or compressed with loss, no segment is a class, segments overlap where no
            regions are declared, or numbers of segments are no labels where no classes are declared.
        GeometryError: If a frame does not lie on a slice of the grid, pixel by pixel.
    """
    refuse_loss(syntax)  # LossyImageCompression may be that of the image, which segmentations take over
    attributes = frame_attributes(data)
    places = [place_of(data, one) for one in attributes]
    if target is None:
        target = LabelTarget(_own_grid(places))
    kind = text(data, "SegmentationType")
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise ImageFileError(f"segmentation of type {kind or 'unknown'}; expected BINARY, FRACTIONAL or LABELMAP")
    background = int(number(data, "PixelPaddingValue") or 0) if kind == "LABELMAP" else None
    builder = LabelMapBuilder(_segments(data, background), target)
    refuse_beyond_limit(stored_shape(data))
    with damage("the pixels of a segmentation cannot be decoded"):
        pixels = decode(data, syntax)
    if len(pixels) != len(places):
        raise ImageFileError(f"a segmentation has pixels of {len(pixels)} frames, and places of {len(places)}")
    for frame, place, one in zip(pixels, places, attributes, strict=True):
        where, turned = _on_grid(frame, place, target.grid)
        masks = _masks(turned, one, _least(kind, data, target)) if background is None else _values(turned, background)
        for segment, mask in masks:
            builder.draw(segment, where, mask)
    notes = list(builder.notes)
    if kind == "FRACTIONAL":
        notes.append(f"Fractional segments are taken from {target.rules.threshold:g} on.")
    return Volume(
        builder.labels()[None],
        target.grid,
        notes=tuple(notes),
        names=builder.names(),
        frames_of_reference=frozenset(filter(None, [text(data, "FrameOfReferenceUID")])),
    )


def _segments(data: Dataset, background: int | None) -> list[Segment]:
    """The segments of a segmentation; a label map may describe its background, too."""
    found = []
    for item in items(data, "SegmentSequence"):
        if (given := number(item, "SegmentNumber")) is None:
            raise ImageFileError("a segment has no SegmentNumber")
        if given != background:
            found.append(Segment(int(given), text(item, "SegmentLabel") or f"segment {int(given)}"))
    return found


def _values(frame: NDArray[Any], background: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The pixels of each segment in a frame of a label map."""
    for value in np.unique(frame).tolist():
        if value != background:
            yield int(value), frame == value


def _masks(frame: NDArray[Any], attributes: Dataset, least: float) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """The pixels of a frame that belong to its segment: those of at least that value."""
    segment = number(attributes, "ReferencedSegmentNumber")
    if segment is None:
        raise ImageFileError("a frame of a segmentation has no ReferencedSegmentNumber")
    yield int(segment), frame >= least


def _least(kind: str, data: Dataset, target: LabelTarget) -> float:
    """Least stored value of a voxel that belongs to a segment."""
    if kind == "BINARY":
        return 1.0
    return target.rules.threshold * (number(data, "MaximumFractionalValue") or 255.0)


def _on_grid(frame: NDArray[Any], place: Slice, grid: Grid) -> tuple[tuple[slice | int, ...], NDArray[Any]]:
    """Part of the grid that a frame lies on, and its pixels in the order of the grid's axes.

    Args:
        frame: Pixels of the frame, (row, column).
        place: Position of the frame.
        grid: Whose slices may run along any of its axes.
    """
    step = place.gap or place.thickness or 1.0
    own = grid_of(place, np.array(place.position), place.normal * step, 1)
    between = np.linalg.inv(grid.matrix) @ own.matrix  # from (column, row, 0, 1) to the grid's indices
    axes = [int(np.abs(between[:3, axis]).argmax()) for axis in (0, 1)]
    rounded, sizes = np.rint(between), (place.shape[1], place.shape[0])
    corners = np.array([(i, j, 0, 1) for i in (0, sizes[0] - 1) for j in (0, sizes[1] - 1)])
    off = np.abs(corners @ (between - rounded)[:3].T).max()
    if axes[0] == axes[1] or off > _ON_GRID or np.abs(rounded[:3, :2]).sum() != 2:
        raise GeometryError("a frame of the segmentation does not lie on the voxels of the image")
    where: list[slice | int] = [int(index) for index in rounded[:3, 3]]
    turned = frame.T  # (column, row)
    for axis, size, along in zip(axes, sizes, (0, 1), strict=True):
        first, forward = int(rounded[axis, 3]), rounded[axis, along] > 0
        start = first if forward else first - size + 1
        turned = turned if forward else np.flip(turned, along)
        where[axis] = slice(start, start + size)
    for axis, part in enumerate(where):
        start, stop = (part.start, part.stop) if isinstance(part, slice) else (part, part + 1)
        if start < 0 or stop > grid.shape[axis]:
            raise GeometryError("a frame of the segmentation lies outside of the image")
    return tuple(where), turned if axes[0] < axes[1] else turned.T


def _own_grid(places: list[Slice]) -> Grid:
    """The grid of a segmentation's frames; empty ones are often left out, so that slices between may be missing."""
    if mixture := mixture_of(places):
        raise GeometryError(mixture)
    plane = places[0]
    positions = np.array([place.position for place in places])
    heights = positions @ plane.normal
    gaps = np.diff(np.unique(np.round(heights, 3)))
    gap = plane.gap or (float(gaps.min()) if len(gaps) else plane.thickness or 1.0)
    count = int(np.rint((heights.max() - heights.min()) / gap)) + 1
    refuse_beyond_limit((*plane.shape[::-1], count))
    return grid_of(plane, positions[heights.argmin()], plane.normal * gap, count)
