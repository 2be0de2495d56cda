"""The label map that a DICOM segmentation is drawn into, on an image's grid. Nothing here needs pydicom."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from unetpipe.documents import Record
from unetpipe.imaging.geometry import Grid


class SegmentRules(Record):
    """How segments become labels, where their names and numbers alone do not say it.

    Attributes:
        names: Further names of the segments of a class, by its own name.
        threshold: Share of the highest fraction from which a voxel belongs to a fractional segment.
    """

    names: Mapping[str, tuple[str, ...]] = {}
    threshold: float = 0.5


@dataclass(frozen=True)
class LabelTarget:
    """The label map that segments or contours are drawn into.

    Attributes:
        grid: Grid of the image.
        values: Value of a voxel by the names of all classes or regions that hold it. Empty where no classes are
            declared: then values are the numbers of segments.
        rules: Which segments are which class.
    """

    grid: Grid
    values: Mapping[frozenset[str], int] = field(default_factory=dict)
    rules: SegmentRules = field(default_factory=SegmentRules)

    @property
    def names(self) -> Collection[str]:
        """Names of all classes or regions."""
        return sorted({name for together in self.values for name in together})

    def class_of(self, segment: str) -> str | None:
        """The class of a segment's name, in any case of letters and with any separators; None if there is none."""
        given = plain_name(segment)
        for name in self.names:
            if given in map(plain_name, (name, *self.rules.names.get(name, ()))):
                return name
        return None


def plain_name(name: str) -> str:
    """A name in small letters without separators, to compare names that files spell in different ways."""
    return re.sub(r"[\W_]+", "", name).casefold()
