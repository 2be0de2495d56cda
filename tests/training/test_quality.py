"""What held-out cases teach about a network's confidence."""

import numpy as np
import pytest

from unetpipe.inference.confidence import LEAST_PROBABILITY
from unetpipe.inference.quality import logit, sigmoid
from unetpipe.metrics.overlap import Overlap
from unetpipe.training.quality import LEAST_CASES, fit_quality


def overlap(dice: float) -> Overlap:
    return Overlap(both=round(1e6 * dice), reference=1_000_000, prediction=1_000_000)


def cases(count: int, seed: int, noise: float = 0.3) -> tuple[list[list[Overlap]], list[dict[str, float | None]]]:
    """Networks that are too sure: the logit of the Dice is half that of the expectation, give or take."""
    random = np.random.default_rng(seed)
    expected = [sigmoid(value) for value in random.normal(2.5, 1.0, count)]
    dice = [sigmoid(0.2 + 0.5 * logit(one) + random.normal(0, noise)) for one in expected]
    return [[overlap(one)] for one in dice], [{"organ": one} for one in expected]


def test_too_much_confidence_is_seen_through() -> None:
    """Line and interval of 40 cases: the mean error on a thousand others is small, and nine of ten lie inside."""
    quality = fit_quality(["organ"], *cases(40, 0))
    assert quality is not None
    assert quality.least == LEAST_PROBABILITY
    others, expected = cases(1000, 1)
    found = [quality.predicted(one)["organ"] for one in expected]
    true = [one[0].dice for one in others]
    assert np.mean([abs(one.dice - dice) for one, dice in zip(found, true, strict=True)]) < 0.06
    assert abs(np.mean([one.dice - dice for one, dice in zip(found, true, strict=True)])) < 0.02
    assert np.mean([one.low <= dice <= one.high for one, dice in zip(found, true, strict=True)]) == pytest.approx(
        0.92, abs=0.06
    )


def test_more_confidence_never_means_less_dice() -> None:
    """A few cases that say the opposite give a flat line."""
    overlaps = [[overlap(0.9 - n / 40)] for n in range(10)]
    quality = fit_quality(["organ"], overlaps, [{"organ": sigmoid(n - 5)} for n in range(10)])
    assert quality is not None
    assert quality.classes[0].slope == 0


def test_few_cases_teach_nothing() -> None:
    """Fewer than eight cases with the class: no prediction of it."""
    overlaps, expected = cases(LEAST_CASES - 1, 0)
    assert fit_quality(["organ"], overlaps, expected) is None
    overlaps, expected = cases(LEAST_CASES, 0)
    expected[0]["organ"] = None
    assert fit_quality(["organ"], overlaps, expected) is None


def test_a_class_that_was_made_up_counts_as_failed() -> None:
    """Where the reference lacks the class, its Dice is 0, and it is not one that is always present."""
    overlaps, expected = cases(20, 0)
    overlaps[0] = [Overlap(both=0, reference=0, prediction=10)]
    quality = fit_quality(["organ"], overlaps, expected)
    assert quality is not None
    assert quality.classes[0].presence == 0.95
    assert quality.classes[0].below > 0.3
