"""Predicted against measured Dice."""

from math import isnan, nan

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from unetpipe.evaluation.predicted_dice import _auroc, check_predictions
from unetpipe.inference.quality import PredictedDice
from unetpipe.metrics.overlap import Overlap
from unetpipe.metrics.scores import ClassScore
from unetpipe.metrics.surface import SurfaceScores


def score(case: str, dice: float) -> ClassScore:
    voxels = 0 if isnan(dice) else 1_000_000
    return ClassScore(
        case=case,
        value=1,
        outcome="matched",
        overlap=Overlap(both=0 if isnan(dice) else round(1e6 * dice), reference=voxels, prediction=voxels),
        surface=SurfaceScores(),
        lesions=None,
        tolerance_mm=1.0,
        voxel_ml=1e-3,
    )


def around(dice: float) -> PredictedDice:
    return PredictedDice(dice=dice, low=dice - 0.05, high=dice + 0.05)


def test_errors_coverage_and_failures() -> None:
    """Three cases by hand: one on the spot, one too high, one that failed and was seen."""
    scores = {"m": [score("a", 0.9), score("b", 0.85), score("c", 0.5), score("d", nan)]}
    predicted = {
        "m": {"a": {"x": around(0.9)}, "b": {"x": around(0.95)}, "c": {"x": around(0.6)}, "d": {"x": around(1)}}
    }
    (check,) = check_predictions(scores, {1: "x"}, predicted)
    assert (check.model, check.name, check.cases, check.failed, check.auroc) == ("m", "x", 3, 1, 1.0)
    assert check.mean_error == pytest.approx(0.2 / 3)
    assert check.mean_absolute_error == pytest.approx(0.2 / 3)
    assert check.covered == pytest.approx(1 / 3)


def test_the_area_is_that_of_ranks() -> None:
    """Equal to scipy's Mann-Whitney statistic over the number of pairs, ties included."""
    random = np.random.default_rng(0)
    dice = random.uniform(0.6, 1, 200)
    guess = np.round(dice + random.normal(0, 0.1, 200), 1)
    scores = {"m": [score(f"{n}", value) for n, value in enumerate(dice)]}
    predicted = {"m": {f"{n}": {"x": around(value)} for n, value in enumerate(guess)}}
    (check,) = check_predictions(scores, {1: "x"}, predicted)
    failed = np.array([one.overlap.dice for one in scores["m"]]) < 0.8
    pairs = failed.sum() * (~failed).sum()
    assert check.auroc == pytest.approx(mannwhitneyu(guess[~failed], guess[failed]).statistic / pairs)


def test_models_without_predictions_are_left_out() -> None:
    """No row for a class that nobody predicted, and no area where no case failed."""
    scores = {"m": [score("a", 0.9)], "n": [score("a", 0.9)]}
    (check,) = check_predictions(scores, {1: "x", 2: "y"}, {"n": {"a": {"x": around(0.9)}}})
    assert check.model == "n"
    assert isnan(check.auroc)


def test_the_area_needs_no_table_of_all_pairs() -> None:
    """Ties count half; of a hundred thousand cases on either side it would not fit in memory."""
    assert _auroc(np.array([0.1, 0.5, 0.5]), np.array([0.5, 0.9])) == pytest.approx((1 + 0.5 + 0.5 + 3) / 6)
    assert _auroc(np.zeros(100_000), np.ones(100_000)) == 1


def test_predictions_of_classes_with_other_names_are_not_passed_over(logged: list[str]) -> None:
    """References that name no classes are evaluated by value; a part of the classes may be left out on purpose."""
    predicted = {"m": {"a": {"x": around(0.9), "y": around(0.9)}}}
    assert check_predictions({"m": [score("a", 0.9)]}, {1: "1"}, predicted) == []
    assert logged == ["m: predicted Dice of x, y is not compared, as no class is called so: name classes by --labels"]
    assert len(check_predictions({"m": [score("a", 0.9)]}, {1: "x"}, predicted)) == 1
    assert len(logged) == 1
