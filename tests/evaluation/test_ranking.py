"""Models in the order of their mean Dice, with intervals of the difference to the best in the same patients."""

from math import nan

import numpy as np
import pytest

from unetpipe.evaluation.ranking import rank_models

RANDOM = np.random.default_rng(0)
HARD = RANDOM.uniform(0.3, 0.9, (40, 2))  # cases differ far more than models do
PATIENTS = [f"p{n}" for n in range(40)]


def test_a_small_difference_in_the_same_patients_is_beyond_chance() -> None:
    """Intervals of the means overlap widely, that of the paired difference does not hold 0."""
    noise = RANDOM.normal(0, 0.002, HARD.shape)
    best, other = rank_models({"a": HARD, "b": HARD + 0.01 + noise}, PATIENTS, seed=0)
    assert (best.name, other.name) == ("b", "a")
    assert other.high > best.low
    assert other.behind == pytest.approx(0.01, abs=1e-3)
    assert 0 < other.behind_low < 0.01 < other.behind_high
    assert (best.tied, other.tied) == (True, False)


def test_a_difference_by_chance_is_a_tie() -> None:
    """Models that are better in some patients and worse in as many others are tied."""
    best, other = rank_models({"a": HARD, "b": HARD + RANDOM.normal(0, 0.05, HARD.shape)}, PATIENTS, seed=0)
    assert other.tied
    assert other.behind_low <= 0 <= other.behind_high
    assert best.behind == 0


def test_the_mean_is_over_classes_of_means_over_patients() -> None:
    """A patient's cases are averaged first, and what is not defined takes no part."""
    dice = np.array([[0.2, nan], [0.4, nan], [0.9, 0.5]])
    (one,) = rank_models({"a": dice}, ["p", "p", "q"], seed=0)
    assert one.dice == pytest.approx(((0.3 + 0.9) / 2 + 0.5) / 2)


def test_equal_models_keep_their_order_and_a_single_patient_decides_nothing() -> None:
    """Where there is no interval every model is tied."""
    ranked = rank_models({"a": np.array([[0.5]]), "b": np.array([[0.9]]), "c": np.array([[0.9]])}, ["p"], seed=0)
    assert [one.name for one in ranked] == ["b", "c", "a"]
    assert all(one.tied for one in ranked)
    assert np.isnan(ranked[2].behind_low)


@pytest.mark.parametrize("patients", [1, 3])
def test_draws_without_a_class_are_means_over_all(patients: int) -> None:
    """A class that few of twenty patients have counts in every draw: none is the mean of the other class alone."""
    rare = np.array([[0.95, 0.2]] * patients + [[0.95, nan]] * (20 - patients))
    (one,) = rank_models({"a": rare}, PATIENTS[:20], seed=0)
    assert (one.dice, one.low, one.high) == pytest.approx((0.575, 0.575, 0.575))


def test_many_rare_classes_leave_an_interval() -> None:
    """Hardly any draw holds forty classes of two patients each, and the worse model is behind all the same."""
    table = np.full((100, 40), nan)
    for number in range(40):
        table[2 * number : 2 * number + 2, number] = RANDOM.uniform(0.6, 0.9, 2)
    best, other = rank_models({"a": table, "b": table - 0.2}, [f"p{n}" for n in range(100)], seed=0)
    assert (best.name, other.tied) == ("a", False)
    assert best.low < best.dice < best.high


@pytest.mark.parametrize("common", [False, True])
def test_a_class_of_a_single_patient_puts_no_model_behind(common: bool) -> None:
    """By itself it gives no interval; beside another class the difference is that of the other alone."""
    table = np.full((20, 2), nan)
    table[0, 0] = 0.9
    if common:
        table[:, 1] = 0.8
    other = table - np.array([0.3, 0.0])
    worse = rank_models({"a": table, "b": other}, PATIENTS[:20], seed=0)[1]
    assert (worse.name, worse.tied) == ("b", True)
    assert worse.behind == pytest.approx(0.15 if common else 0.3)
