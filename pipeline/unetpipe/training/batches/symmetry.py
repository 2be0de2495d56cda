"""Which axes may be mirrored without making one class resemble another."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

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
    total: dict[tuple[str, str], NDArray[np.int64]] = {}
    times: Counter[tuple[str, str]] = Counter()
    for locations in cases:
        classes = {name: np.asarray(locations[name], dtype=float) for name in sorted(locations) if len(locations[name])}
        for pair, order in _orders(classes):
            total[pair] = total.get(pair, 0) + order
            times[pair] += 1
    fixed = np.zeros(dims, dtype=bool)
    for pair, orders in total.items():
        fixed |= np.abs(orders / times[pair]) > 2 * _CONSISTENT - 1
    return tuple(axis for axis in range(dims) if not fixed[axis])


def _orders(classes: Mapping[str, NDArray[np.float64]]) -> Iterator[tuple[tuple[str, str], NDArray[np.int64]]]:
    """For each two classes of a case 1, -1 or 0 along each axis: above, below, or as near as their own spread."""
    if len(classes) < 2:
        return
    names = list(classes)
    mean, variance = (np.array([getattr(one, what)(axis=0) for one in classes.values()]) for what in ("mean", "var"))
    first, second = np.triu_indices(len(names), k=1)
    apart = mean[first] - mean[second]
    far = np.abs(apart) > np.sqrt((variance[first] + variance[second]) / 2)
    for a, b, order in zip(first.tolist(), second.tolist(), (np.sign(apart) * far).astype(np.int64), strict=True):
        yield (names[a], names[b]), order
