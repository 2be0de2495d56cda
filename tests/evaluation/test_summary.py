"""From cases to classes: pooling, failures, intervals."""

from math import isnan, nan

import numpy as np
import pytest

from unetpipe.evaluation import summary
from unetpipe.evaluation.summary import bootstrap_interval, bootstrap_means, pool, summarise
from unetpipe.metrics.overlap import Overlap
from unetpipe.metrics.scores import ClassScore, Outcome
from unetpipe.metrics.surface import SurfaceScores


def score(case: str, both: int, reference: int, prediction: int, outcome: Outcome = "matched") -> ClassScore:
    return ClassScore(
        case=case,
        value=1,
        outcome=outcome,
        overlap=Overlap(both=both, reference=reference, prediction=prediction),
        surface=SurfaceScores(hd_mm=2.0) if both else SurfaceScores(),
        lesions=None,
        tolerance_mm=1.0,
        voxel_ml=0.001,
    )


SCORES = [
    score("a", 10, 10, 10),
    score("b", 5, 10, 10),
    score("c", 0, 10, 0, "missed"),
    score("d", 0, 0, 10, "false_positive"),
    score("e", 0, 0, 0, "true_negative"),
    score("f", 0, 10, 0, "no_prediction"),
]


def test_failures_are_counted_and_pull_the_mean_down() -> None:
    """Missed, missing and false positive cases score Dice 0; a true negative takes no part; nothing is inf."""
    (result,) = summarise(SCORES, {1: "organ"}, {}, seed=0)
    assert (result.cases, result.present, result.missed) == (6, 4, 2)
    assert (result.false_positives, result.true_negatives) == (1, 1)
    dice = result.figures["dice"]
    assert dice.n == 5
    assert dice.mean == pytest.approx(1.5 / 5)
    assert (result.figures["hd_mm"].n, result.figures["hd_mm"].mean) == (2, 2.0)


def test_quartiles_and_spread() -> None:
    """Centre and spread are numpy's."""
    (result,) = summarise(SCORES, {1: "organ"}, {}, seed=0)
    values = [1, 0.5, 0, 0, 0]
    dice = result.figures["dice"]
    assert (dice.q1, dice.median, dice.q3) == pytest.approx(tuple(np.percentile(values, (25, 50, 75))))
    assert dice.std == pytest.approx(np.std(values, ddof=1))


def test_patients_count_once() -> None:
    """Three scans of one patient weigh as much as one scan of another."""
    scores = [score("a1", 10, 10, 10), score("a2", 10, 10, 10), score("a3", 10, 10, 10), score("b", 5, 10, 10)]
    (result,) = summarise(scores, {1: "organ"}, dict.fromkeys(("a1", "a2", "a3"), "a"), seed=0)
    assert (result.cases, result.patients) == (4, 2)
    assert result.figures["dice"].mean == pytest.approx(0.75)


def test_pool_leaves_out_nan() -> None:
    """A patient's mean is over what is defined; nothing defined stays undefined."""
    pooled = pool(np.array([[1.0, nan], [nan, nan], [3.0, 2.0]]), ["p", "p", "q"])
    np.testing.assert_array_equal(pooled, [[1.0, nan], [3.0, 2.0]])


def test_interval_is_seeded_and_covers() -> None:
    """The same seed gives the same interval, and 95 % intervals hold the true mean about 95 times in 100."""
    random = np.random.default_rng(0)
    samples = random.normal(5, 2, (40, 300))
    low, high = bootstrap_interval(samples, seed=1)
    np.testing.assert_array_equal((low, high), bootstrap_interval(samples, seed=1))
    assert 0.89 < np.mean((low < 5) & (high > 5)) < 0.98


def test_interval_needs_two_values() -> None:
    """One value has no interval, and NaN never spreads to other columns."""
    low, high = bootstrap_interval(np.array([[1.0, 1.0], [nan, 2.0]]), seed=0)
    assert isnan(low[0])
    assert (low[1], high[1]) == (1.0, 2.0)


def test_figures_without_a_case() -> None:
    """A class that never occurs has figures of no value rather than none."""
    (result,) = summarise([score("e", 0, 0, 0, "true_negative")], {1: "organ"}, {}, seed=0)
    assert result.figures["dice"].n == 0
    assert isnan(result.figures["dice"].mean)


def test_patients_are_drawn_once_for_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed draws the same patients, which takes longer than the means of a class."""
    table = np.random.default_rng(0).normal(0, 1, (50, 3))
    expected = bootstrap_means(table, seed=91)
    monkeypatch.setattr(summary, "_drawn", None)
    np.testing.assert_array_equal(bootstrap_means(table, seed=91), expected)
    monkeypatch.undo()
    monkeypatch.setattr(summary, "_MOST_KEPT", 0)
    np.testing.assert_array_equal(bootstrap_means(table, seed=91), expected)
