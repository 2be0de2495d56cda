"""What a network's outputs stand for: classes, or regions that overlap.

Usually outputs are classes, of which each voxel has exactly one: probabilities are a softmax, and the largest logit
decides. A dataset may declare regions instead, sets of label values that overlap, such as a whole tumour and its core:
each output has a sigmoid of its own, and a region is found where its logit is above 0.

What outputs are called, which values they have and how many there are, `LabelScheme` says. Other modules ask whether
outputs overlap where they treat logits, probabilities or files of the two kinds differently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unetpipe.documents import Record


class LabelClass(Record):
    """One class: its name and the value it has in label files."""

    name: str
    value: int


class Region(Record):
    """A structure that consists of several label values and may overlap others.

    Attributes:
        name: Name of the region.
        values: Label values that the region consists of.
        written: Label value of a voxel that is predicted to lie in this region and in no later one.
    """

    name: str
    values: tuple[int, ...]
    written: int


@dataclass(frozen=True)
class LabelScheme:
    """The outputs of a network and the values in label files.

    Attributes:
        labels: All classes in label files, background first; the position of a class is its class index.
        regions: Regions in the order in which they are written; empty where outputs are classes.
    """

    labels: tuple[LabelClass, ...]
    regions: tuple[Region, ...]

    @property
    def overlapping(self) -> bool:
        """Whether a voxel may belong to several outputs."""
        return bool(self.regions)

    @property
    def count(self) -> int:
        """L, the number of logits per voxel: all classes with the background, or all regions, which have none."""
        return len(self.regions or self.labels)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Name of each of the L outputs: of all classes with the background, or of the regions."""
        return tuple(one.name for one in self.regions or self.labels)

    @property
    def output_values(self) -> tuple[int, ...]:
        """Label value of each of the L outputs: that of the class, or the one that is written for the region."""
        return tuple(region.written for region in self.regions) or tuple(label.value for label in self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the structures to be found: the foreground classes, or the regions."""
        return tuple(one.name for one in self.regions or self.labels[1:])

    @property
    def names_by_value(self) -> dict[int, str]:
        """Name of each class in label files, the background's included, by its value."""
        return {label.value: label.name for label in self.labels}

    @property
    def written_values(self) -> tuple[int, ...]:
        """Label value that is written for each of the `names`."""
        return tuple(region.written for region in self.regions) or tuple(label.value for label in self.labels[1:])

    @property
    def values(self) -> tuple[tuple[int, ...], ...]:
        """Label values that each of the `names` consists of."""
        return tuple(tuple(self.labels[index].value for index in indices) for indices in self.class_indices)

    @property
    def class_indices(self) -> tuple[tuple[int, ...], ...]:
        """Class indices that each of the `names` consists of."""
        if not self.regions:
            return tuple((index,) for index in range(1, len(self.labels)))
        return tuple(tuple(self._index(value) for value in region.values) for region in self.regions)

    @property
    def decoded_indices(self) -> tuple[int, ...]:
        """Class index that is written for each decision: 0 for the background, then one for each of the `names`."""
        if not self.regions:
            return tuple(range(len(self.labels)))
        return (0, *(self._index(region.written) for region in self.regions))

    def per_output(self, given: Mapping[str, float], default: float = 1.0) -> tuple[float, ...]:
        """The figure given for each of the L outputs by its name, or the default."""
        return tuple(given.get(name, default) for name in self.output_names)

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
