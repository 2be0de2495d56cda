"""Several values of label files as one class: edges that anti-aliasing blurred, or parts that are not told apart.

Values are merged as soon as a label map is read, so that everything after it sees one value for a class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.documents import Record
from unetpipe.errors import DatasetError
from unetpipe.label_values import Range

BACKGROUND = "background"
IGNORE = "ignore"


class MergedValues(Record):
    """Values from `low` to `high`, both included, that count as `value`."""

    low: int
    high: int
    value: int


@dataclass(frozen=True, kw_only=True)
class DeclaredLabels:
    """Classes as a person declares them.

    Attributes:
        classes: Background first, then in the order given.
        merged: Further label values, and the class that each counts as.
        ignore_value: Label value of voxels that take no part; None where none is declared.
    """

    classes: tuple[LabelClass, ...]
    merged: tuple[MergedValues, ...]
    ignore_value: int | None

    def over(self, ignore_value: int | None) -> "DeclaredLabels":
        """The same over what a dataset declares: its ignored value remains where it is not a value of a class now."""
        if self.ignore_value is not None or ignore_value is None or self.class_of(ignore_value) is not None:
            return self
        return replace(self, ignore_value=ignore_value)

    def class_of(self, value: int) -> LabelClass | None:
        """The class that a label value counts as."""
        counted = next((one.value for one in self.merged if one.low <= value <= one.high), value)
        return next((one for one in self.classes if one.value == counted), None)


def declare_labels(labels: Mapping[str, Sequence[Range]]) -> DeclaredLabels:
    """Make classes of names and values.

    Args:
        labels: Values of each class by name; ``background`` lists what counts as background besides 0, and ``ignore``
            what takes no part in training and evaluation.

    Raises:
        DatasetError: If a value belongs to two classes, or 0 to another than the background.
    """
    owners = [(low, high, name) for name, ranges in labels.items() for low, high in ranges]
    owners += [(0, 0, BACKGROUND)] if not any(low <= 0 <= high for low, high, _ in owners) else []
    for (low, high, name), (first, last, other) in combinations(owners, 2):
        if name != other and max(low, first) <= min(high, last):
            raise _refused(
                f"the value {max(low, first)} is declared for both {name} and {other}; "
                "regions that overlap are declared in dataset.json or a JSON list, with regions_class_order"
            )
    if owner := next((name for low, high, name in owners if low <= 0 <= high and name != BACKGROUND), None):
        raise _refused(f"0 is the background, and cannot be a value of {owner}")
    written = {name: 0 if name == BACKGROUND else ranges[0][0] for name, ranges in labels.items()}
    return DeclaredLabels(
        classes=(
            LabelClass(name=BACKGROUND, value=0),
            *(
                LabelClass(name=name, value=value)
                for name, value in written.items()
                if name not in (BACKGROUND, IGNORE)
            ),
        ),
        merged=tuple(
            MergedValues(low=low, high=high, value=written[name])
            for name, ranges in labels.items()
            for low, high in ranges
            if (low, high) != (written[name], written[name])
        ),
        ignore_value=written.get(IGNORE),
    )


def merge_values(labels: NDArray[np.integer], merged: Sequence[MergedValues]) -> NDArray[np.integer]:
    """Give every value of a label map the value that it counts as.

    Args:
        labels: Label values, any shape.
        merged: Further label values, and the class that each counts as.

    Returns:
        The array itself where no value is merged, else a new one whose type holds all values.
    """
    result = labels
    for one in merged:
        inside = (labels >= one.low) & (labels <= one.high)
        if inside.any():
            kind = np.result_type(result.dtype, np.min_scalar_type(one.value))
            if kind.kind not in "iu":  # what numpy makes of uint64 and a negative value
                kind = np.dtype(np.int64)
            result = np.where(inside, kind.type(one.value), result.astype(kind, copy=False))
    return result


def merge_counts(counts: Mapping[int, int], merged: Sequence[MergedValues]) -> dict[int, int]:
    """Voxels of each value of a label map, after `merge_values`."""
    result: dict[int, int] = {}
    for value, count in counts.items():
        counted_as = next((one.value for one in merged if one.low <= value <= one.high), value)
        result[counted_as] = result.get(counted_as, 0) + count
    return dict(sorted(result.items()))


def _refused(message: str) -> DatasetError:
    return DatasetError.of("bad_labels", f"--labels: {message}")
