"""What a network's outputs stand for. Here, and nowhere else, it is known that an output may be a set of label values.

In the plain case outputs are classes, of which a voxel has exactly one: softmax, the largest wins. A dataset may ask
for regions instead, sets of label values that overlap, such as a whole tumour and its core: sigmoid, each for itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unetpipe.documents import Record


class LabelClass(Record):
    """One class: its name and the value it has in label files."""

    name: str
    value: int


class Region(Record):
    """Label values that are found together.

    Attributes:
        name: Of the region.
        values: In label files.
        written: What a voxel of a predicted region gets, unless it is also in a later one.
    """

    name: str
    values: tuple[int, ...]
    written: int


@dataclass(frozen=True)
class LabelScheme:
    """Attributes:
    labels: Every value in label files, background first. Index n is class index n.
    regions: In the order in which they are written; empty in the plain case.
    """

    labels: tuple[LabelClass, ...]
    regions: tuple[Region, ...]

    @property
    def overlapping(self) -> bool:
        """Whether a voxel may belong to several outputs."""
        return bool(self.regions)

    @property
    def count(self) -> int:
        """L: channels of logits. Classes count their background, regions have none."""
        return len(self.regions or self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """What is looked for: foreground classes, or regions."""
        return tuple(one.name for one in self.regions or self.labels[1:])

    @property
    def written_values(self) -> tuple[int, ...]:
        """Label value that is written for each of `names`."""
        return tuple(region.written for region in self.regions) or tuple(label.value for label in self.labels[1:])

    @property
    def values(self) -> tuple[tuple[int, ...], ...]:
        """Label values that each of `names` consists of."""
        return tuple(tuple(self.labels[index].value for index in indices) for indices in self.class_indices)

    @property
    def class_indices(self) -> tuple[tuple[int, ...], ...]:
        """Class indices of what each of `names` consists of."""
        if not self.regions:
            return tuple((index,) for index in range(1, len(self.labels)))
        return tuple(tuple(self._index(value) for value in region.values) for region in self.regions)

    @property
    def decoded_indices(self) -> tuple[int, ...]:
        """Class index that each decision stands for: 0 is background, n the n-th of `names`."""
        if not self.regions:
            return tuple(range(len(self.labels)))
        return (0, *(self._index(region.written) for region in self.regions))

    def _index(self, value: int) -> int:
        return next(index for index, label in enumerate(self.labels) if label.value == value)


def values_of_segments(classes: Mapping[int, str], regions: Sequence[Region]) -> dict[frozenset[str], int]:
    """Value of a voxel by the names of all classes or regions that hold it.

    Args:
        classes: Name by value; 0 is the background.
        regions: Overlapping sets of values; where there are any, they are the names.
    """
    if not regions:
        return {frozenset([name]): value for value, name in classes.items() if value != 0}
    found: dict[frozenset[str], int] = {}
    for value in sorted({value for region in regions for value in region.values}):
        found.setdefault(frozenset(region.name for region in regions if value in region.values), value)
    return found
