"""Which axes may be mirrored without making one class resemble another."""

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

_CONSISTENT = 0.9  # share of cases in which two classes lie in one order, where they lie in the other one in the rest

Locations = Mapping[str, NDArray[np.int64]]
"""Class index to some of its voxels, as `CaseRecord.coordinates` has them."""


def mirror_axes(cases: Iterable[Locations], dims: int) -> tuple[int, ...]:
    """Axes along which no two classes lie apart, by more than their own spread, in the same order in nearly all cases.

    Images are in RAS+ order. Where the left kidney is always left of the right one, or the anterior part before the
    posterior one, position tells the classes apart, and mirroring that axis, as nnU-Net does with every axis, would
    take that away from the network. A single class, or classes that lie about each other, leave every axis.

    Args:
        cases: Stored training cases.
        dims: Number of spatial axes.

    Returns:
        Ascending axes; empty if every axis orders some pair of classes.
    """
    orders: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for locations in cases:
        classes = {name: np.asarray(voxels, dtype=float) for name, voxels in locations.items() if len(voxels)}
        for first, second in combinations(sorted(classes), 2):
            a, b = classes[first], classes[second]
            apart = a.mean(axis=0) - b.mean(axis=0)
            spread = np.sqrt((a.var(axis=0) + b.var(axis=0)) / 2)
            orders.setdefault((first, second), []).append(np.sign(apart) * (np.abs(apart) > spread))
    fixed = np.zeros(dims, dtype=bool)
    for signs in orders.values():
        fixed |= np.abs(np.mean(signs, axis=0)) > 2 * _CONSISTENT - 1
    return tuple(axis for axis in range(dims) if not fixed[axis])
