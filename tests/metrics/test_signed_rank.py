"""The signed-rank test, beside scipy's."""

from itertools import product
from math import isnan

import numpy as np
import pytest
from scipy import stats

from unetpipe.metrics.signed_rank import signed_rank_p


@pytest.mark.parametrize("count", [1, 2, 5, 20, 50, 51, 200])
def test_equals_scipy(count: int) -> None:
    """Without ties the p-value is scipy's, exact and approximate."""
    differences = np.random.default_rng(count).normal(0.3, 1, count)
    assert signed_rank_p(differences) == pytest.approx(stats.wilcoxon(differences).pvalue, rel=1e-9)


def test_equals_scipy_with_ties_and_zeros() -> None:
    """Many pairs with ties and zeros give scipy's p-value."""
    differences = np.random.default_rng(0).integers(-3, 5, 120).astype(float)
    assert signed_rank_p(differences) == pytest.approx(
        stats.wilcoxon(differences, method="asymptotic").pvalue, rel=1e-9
    )


def test_few_pairs_with_ties_are_exact() -> None:
    """The p-value is the share of sign patterns at least as extreme, counted one by one."""
    differences = np.array([0.1, 0.1, -0.1, 0.2, 0.3, 0.3, 0.0])
    ranks = stats.rankdata(np.abs(differences[differences != 0]))
    seen = ranks[differences[differences != 0] > 0].sum()
    sums = np.array([ranks[np.array(signs)].sum() for signs in product((False, True), repeat=6)])
    expected = min(1.0, 2 * min(np.mean(sums <= seen), np.mean(sums >= seen)))
    assert signed_rank_p(differences) == pytest.approx(expected)


def test_nothing_to_test() -> None:
    """No difference at all is p = 1, no pair at all is undefined."""
    assert signed_rank_p(np.zeros(4)) == 1
    assert isnan(signed_rank_p(np.zeros(0)))
