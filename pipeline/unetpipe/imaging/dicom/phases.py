"""Which frames of a series make one volume.

A series may hold several: of other geometry, phases, echoes, b-values, reconstruction kernels, or acquisitions whose
slices lie between each other. Frames are split by geometry, then by what differs in content, and by the occasion of
their acquisition only where they cannot be one volume otherwise.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from unetpipe.imaging.dicom.distinctions import CONTENT, OCCASION, Value
from unetpipe.imaging.dicom.frames import Frame
from unetpipe.imaging.dicom.slices import SAME_PLACE_MM, stack

_CONTIGUOUS = 0.75
"""Slices at least this much of their gap thick cover space without the slices that lie between them."""
_BETWEEN = ("AcquisitionNumber", "AcquisitionTime")
"""Attributes that separate acquisitions whose slices interleave."""


@dataclass(frozen=True)
class SeriesPart:
    """Frames of one volume.

    Attributes:
        frames: Frames in the order of their files.
        values: Values that separate the volume from the others of the series.
    """

    frames: tuple[Frame, ...]
    values: Mapping[str, Value | None] = field(default_factory=dict)


def volumes_in(frames: Iterable[Frame]) -> list[SeriesPart]:
    """Split the frames of a series into its volumes, ordered by geometry and then by the values that separate them."""
    return [part for plane in _by_plane(frames) for part in _of_one_plane(plane)]


def _by_plane(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Frames that can be slices of one stack."""
    planes: list[list[Frame]] = []
    for frame in frames:
        plane = next((plane for plane in planes if plane[0].place.same_plane(frame.place)), None)
        if plane is None:
            planes.append([frame])
        else:
            plane.append(frame)
    return planes


def _of_one_plane(frames: list[Frame]) -> list[SeriesPart]:
    parts = [SeriesPart(tuple(frames))]
    for name in CONTENT:
        parts = [piece for part in parts for piece in _by_content(part, name)]
    return [piece for part in parts for piece in _by_occasion(part)]


def _by_content(part: SeriesPart, name: str) -> list[SeriesPart]:
    groups = _groups(part, name)
    if len(groups) == 1:
        return [part]
    values: dict[int, set[Value | None]] = {}
    for frame, place in zip(part.frames, _places(part.frames), strict=True):
        values.setdefault(place, set()).add(frame.distinctions.get(name))
    differs_at_one_place = any(len(found) > 1 for found in values.values())
    differs_from_slice_to_slice = len(groups) > len(values) / 2
    return [part] if differs_from_slice_to_slice and not differs_at_one_place else _named(part, name, groups)


def _by_occasion(part: SeriesPart) -> list[SeriesPart]:
    times = max(Counter(_places(part.frames)).values())
    if times > 1:
        for name in OCCASION:
            if found := _apart(part, name, times):
                return _named(part, name, found)
    for name in _BETWEEN:
        groups = _groups(part, name)
        if len(groups) > 1 and _lie_between(list(groups.values())):
            return _named(part, name, groups)
    return [part]


def _apart(part: SeriesPart, name: str, times: int) -> dict[Value | None, list[Frame]]:
    """Frames that lie at one place up to `times` times, as volumes with one frame per place; empty if impossible.

    Either all frames of a volume have one value, or values are in the same order at each place.
    """
    groups = _groups(part, name)
    one_per_place = all(max(Counter(_places(group)).values()) == 1 for group in groups.values())
    if one_per_place and len(groups) == times:
        return groups
    at_place: dict[int, list[Frame]] = {}
    for frame, place in zip(part.frames, _places(part.frames), strict=True):
        at_place.setdefault(place, []).append(frame)
    if all(len({f.distinctions.get(name) for f in found}) == len(found) == times for found in at_place.values()):
        ranked = [
            sorted(found, key=lambda frame: _sortable(frame.distinctions.get(name))) for found in at_place.values()
        ]
        return {float(rank + 1): [found[rank] for found in ranked] for rank in range(times)}
    return groups if one_per_place and min(map(len, groups.values())) > 1 else {}


def _lie_between(groups: Sequence[Sequence[Frame]]) -> bool:
    """Whether groups cover one region, each of them by itself: acquisitions, not parts of one that was interleaved."""
    spans = []
    for group in groups:
        if len(group) < 2:
            return False
        heights = stack([frame.place for frame in group]).heights
        gap, thickness = float(np.median(np.diff(heights))), group[0].place.thickness
        if thickness is not None and thickness < _CONTIGUOUS * gap:
            return False
        spans.append((heights[0], heights[-1]))
    spans.sort()
    return all(after[0] < before[1] for before, after in pairwise(spans))


def _groups(part: SeriesPart, name: str) -> dict[Value | None, list[Frame]]:
    """Frames by their value of an attribute, ordered by it."""
    groups: dict[Value | None, list[Frame]] = {}
    for frame in part.frames:
        groups.setdefault(frame.distinctions.get(name), []).append(frame)
    return {value: groups[value] for value in sorted(groups, key=_sortable)}


def _named(part: SeriesPart, name: str, groups: Mapping[Value | None, Sequence[Frame]]) -> list[SeriesPart]:
    return [SeriesPart(tuple(frames), {**part.values, name: value}) for value, frames in groups.items()]


def _places(frames: Sequence[Frame]) -> list[int]:
    """Number the frames so that equal numbers lie at one place along the normal."""
    heights = np.array([frame.place.position for frame in frames]) @ frames[0].place.normal
    order = np.argsort(heights, kind="stable")
    steps = np.concatenate([[0], np.diff(heights[order]) >= SAME_PLACE_MM])
    places = np.empty(len(frames), dtype=np.int64)
    places[order] = np.cumsum(steps)
    return places.tolist()


def _sortable(value: Value | None) -> tuple[str, Value | float]:
    return type(value).__name__, 0.0 if value is None else value
