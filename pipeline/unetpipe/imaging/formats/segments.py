"""Segmentations of 3D Slicer (.seg.nrrd): layers of label values, and the segments that these stand for.

Source:
    https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ImageFileError, counted

_KEY = re.compile(r"Segment(\d+)_(?:ID|Name|LabelValue|Layer)$")


@dataclass(frozen=True)
class Segment:
    """A structure of a segmentation file.

    Attributes:
        name: Name of the segment, as its author wrote it.
        layer: Index of the layer that holds it.
        value: Value of the segment's voxels in that layer.
    """

    name: str
    layer: int
    value: int


def read_segments(pairs: Mapping[str, str]) -> list[Segment]:
    """Segments in the order of the header; none where it is not one of a segmentation.

    Versions before 4.11 wrote neither layers nor values: each segment has a layer of its own, with the value 1.

    Raises:
        ImageFileError: If a layer or value is no number.
    """
    numbers = sorted({int(match[1]) for key in pairs if (match := _KEY.match(key))})
    segments = []
    for number in numbers:
        name = pairs.get(f"Segment{number}_Name") or pairs.get(f"Segment{number}_ID") or f"segment {number}"
        value = pairs.get(f"Segment{number}_LabelValue")
        layer = pairs.get(f"Segment{number}_Layer", number if value is None else 0)
        try:
            segments.append(Segment(name.replace("\\n", " "), int(layer), int(1 if value is None else value)))
        except ValueError as error:
            raise ImageFileError(f"layer {layer!r} or value {value!r} of segment {name} is no number") from error
    return segments


def name_values(segments: Sequence[Segment]) -> dict[int, str]:
    """Name of each label value of the one map that `merged` makes, in the order of the segments.

    Values are the segments' own where no two share one, else the numbers of the segments from 1 on.
    """
    values = [one.value for one in segments]
    if len(set(values)) < len(values):
        values = list(range(1, len(segments) + 1))
    return {value: one.name for value, one in zip(values, segments, strict=True)}


def merged(layers: NDArray[Any], segments: Sequence[Segment]) -> NDArray[Any]:
    """Make one label map of all layers.

    Args:
        layers: Label values (layers, *spatial).
        segments: Segments, at least one.

    Returns:
        (1, *spatial), with the values of `name_values`.

    Raises:
        ImageFileError: If segments overlap, or a voxel belongs to none.
    """
    values = list(name_values(segments))
    if len(layers) == 1 and all(one.layer == 0 for one in segments) and values == [one.value for one in segments]:
        return layers
    result = np.zeros((1, *layers.shape[1:]), np.int32)
    for value, one in zip(values, segments, strict=True):
        if not 0 <= one.layer < len(layers):
            raise ImageFileError(f"segment {one.name} is in layer {one.layer}, but there are {len(layers)}")
        mask = layers[one.layer] == one.value
        if shared := int(np.count_nonzero(result[0][mask])):
            raise ImageFileError(
                f"segment {one.name} shares {counted(shared, 'voxel')} with others; a label map has one value each"
            )
        result[0][mask] = value
    if stray := int(np.count_nonzero(layers)) - int(np.count_nonzero(result)):
        raise ImageFileError(
            f"{counted(stray, 'voxel of its layers belongs', 'voxels of its layers belong')} to no segment"
        )
    return result
