"""The label map that a DICOM segmentation is drawn into, on an image's grid. Nothing here needs pydicom."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from unetpipe.imaging.geometry import Grid


@dataclass(frozen=True)
class LabelTarget:
    """The label map that segments or contours are drawn into.

    Attributes:
        grid: Grid of the image.
        values: Value of a voxel by the names of all classes or regions that hold it. Empty where no classes are
            declared: then values are the numbers of segments.
    """

    grid: Grid
    values: Mapping[frozenset[str], int] = field(default_factory=dict)

    @property
    def names(self) -> Collection[str]:
        """Names of all classes or regions."""
        return sorted({name for together in self.values for name in together})

    def class_of(self, segment: str) -> str | None:
        """The class of a segment's name, in any case of letters and with any separators; None if there is none."""
        return next((name for name in self.names if plain_name(name) == plain_name(segment)), None)


def plain_name(name: str) -> str:
    """A name in small letters without separators, to compare names that files spell in different ways."""
    return re.sub(r"[\W_]+", "", name).casefold()
