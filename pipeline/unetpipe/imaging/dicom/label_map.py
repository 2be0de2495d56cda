"""Segments, which may overlap, drawn into one label map."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ImageFileError, counted, listed
from unetpipe.imaging.dicom.label_target import LabelTarget

_LISTED = 12


@dataclass(frozen=True)
class Segment:
    """One segment of a segmentation, or one region of interest of a structure set.

    Attributes:
        number: Number by which the file's parts refer to it; from 1 on in a file that keeps to the standard.
        name: Label of the segment, or name of the region of interest.
    """

    number: int
    name: str


class LabelMapBuilder:
    """Collects which segments hold each voxel, and turns that into label values.

    Attributes:
        segments: Segments that are drawn, by number: all, or those whose name is that of a class of the target.
        notes: Sentences about segments that are not drawn.
    """

    def __init__(self, segments: Iterable[Segment], target: LabelTarget) -> None:
        """Start with an empty label map.

        Raises:
            ImageFileError: If classes are declared and no segment has the name of one, or none are declared and the
                number of a segment cannot be a label's value.
        """
        self._target = target
        self._together: list[frozenset[int]] = [frozenset()]
        self._numbers: dict[tuple[int, int], int] = {}
        self._map = np.zeros(target.grid.shape, dtype=np.int32)
        given = list(segments)
        kept = [one for one in given if not target.values or target.class_of(one.name) is not None]
        if not kept:
            found = listed([one.name for one in given], _LISTED) or "none"
            raise ImageFileError(f"no segment is called like a class: expected {', '.join(target.names)}, got {found}")
        if not target.values and (below := [one for one in kept if one.number < 1]):
            raise ImageFileError(
                f"{below[0].name} has the number {below[0].number}, and without classes numbers become labels, which "
                "have to be positive: declare classes, so that names count"
            )
        self.segments: Mapping[int, Segment] = {one.number: one for one in kept}
        left_out = [one.name for one in given if one not in kept]
        self.notes = [f"Segments that no class is called like are left out: {', '.join(left_out)}."] if left_out else []

    def draw(self, number: int, where: tuple[slice | int, ...], mask: NDArray[np.bool_]) -> None:
        """Add voxels to a segment.

        Args:
            number: Number of the segment; one that is not drawn is ignored.
            where: Part of the grid.
            mask: Voxels of the segment, in the shape of that part.
        """
        if number not in self.segments:
            return
        part = self._map[where]
        before = part[mask]
        for known in np.unique(before).tolist():
            if number not in self._together[known]:
                part[mask & (part == known)] = self._with(known, number)

    def labels(self) -> NDArray[np.int32]:
        """Label values, (I, J, K).

        Raises:
            ImageFileError: If segments overlap, and no value stands for the voxels that they share.
        """
        values = np.zeros(len(self._together), dtype=np.int32)
        for index in np.unique(self._map).tolist():
            values[index] = self._value(self._together[index], index)
        return values[self._map]

    def names(self) -> dict[int, str]:
        """Names of values, where they are numbers of segments."""
        return {} if self._target.values else {one.number: one.name for one in self.segments.values()}

    def _with(self, known: int, number: int) -> int:
        """Index of the voxels of a set of segments and one more."""
        if (known, number) not in self._numbers:
            self._numbers[known, number] = len(self._together)
            self._together.append(self._together[known] | {number})
        return self._numbers[known, number]

    def _value(self, together: frozenset[int], index: int) -> int:
        if not together:
            return 0
        if not self._target.values and len(together) == 1:
            return next(iter(together))
        names = [self.segments[number].name for number in sorted(together)]
        classes = frozenset(filter(None, map(self._target.class_of, names)))
        if classes in self._target.values:
            return self._target.values[classes]
        count = int(np.count_nonzero(self._map == index))
        hint = "declare regions whose values say which belong together" if len(names) > 1 else "no value stands for it"
        raise ImageFileError(
            f"{counted(count, 'voxel belongs', 'voxels belong')} to {' and '.join(names)} together; {hint}"
        )
