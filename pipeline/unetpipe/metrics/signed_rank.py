"""Wilcoxon's signed-rank test for paired differences: exact up to 50 pairs, ties included, normal beyond.

scipy's takes a second to import, and seconds per class for a few pairs with ties, which it permutes.

Source:
    Wilcoxon 1945, Biometrics Bull. 1:80; Pratt & Gibbons 1981, Concepts of Nonparametric Theory, ch. 3.
"""

from math import erfc, nan, sqrt

import numpy as np
from numpy.typing import NDArray

_EXACT = 50
_DECIMALS = 12
"""Differences that agree so far are ties: what follows is floating point."""


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p-value of the hypothesis that differences are symmetric about 0.

    Args:
        differences: Finite, one per pair; zeros are left out of the ranks.

    Returns:
        1 if all differences are 0; NaN if there are none.
    """
    if not differences.size:
        return nan
    doubled, positive, ties = _ranks(differences)
    count = doubled.size
    if not count:
        return 1.0
    above = int(doubled[positive].sum())
    if count <= _EXACT:
        return _exact(doubled, above)
    variance = count * (count + 1) * (2 * count + 1) / 24 - float((ties**3.0 - ties).sum()) / 48
    return erfc(abs(above / 2 - count * (count + 1) / 4) / sqrt(2 * variance))


def rank_side(differences: NDArray[np.float64]) -> float:
    """Signed-rank sum as a share of the largest possible one, from -1 to 1 (the rank-biserial correlation).

    Args:
        differences: Finite, one per pair; zeros are left out of the ranks.

    Returns:
        Above 0 where positive differences outweigh negative ones; 0 if none differs.
    """
    doubled, positive, _ = _ranks(differences)
    total = int(doubled.sum())
    return (2 * int(doubled[positive].sum()) - total) / total if total else 0.0


def _ranks(differences: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Twice the mean rank of each difference that is not 0, whether it is positive, and the sizes of ties."""
    rounded = np.round(differences, _DECIMALS)
    rounded = rounded[rounded != 0]
    _, place, ties = np.unique(np.abs(rounded), return_inverse=True, return_counts=True)
    doubled = (2 * np.cumsum(ties) - ties + 1)[place]  # a whole number
    return doubled, rounded > 0, ties


def _exact(doubled: NDArray[np.int64], above: int) -> float:
    """Share of all sign patterns whose sum of positive ranks is as far from the middle, or further."""
    ways = np.zeros(int(doubled.sum()) + 1)
    ways[0] = 1
    for rank in doubled:
        ways[rank:] += ways[:-rank].copy()
    tail = min(ways[: above + 1].sum(), ways[above:].sum())
    return min(1.0, 2 * float(tail) / 2.0**doubled.size)
