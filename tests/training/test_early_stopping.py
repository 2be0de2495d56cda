"""What validation decides."""

import pytest

from unetpipe.training.early_stopping import best_epoch, reason_to_stop, smoothed_dice
from unetpipe.training.schedule import Budget, Cooldown


def test_a_constant_dice_is_its_own_average() -> None:
    """From the first validation on, not from the tenth: nothing pulls towards a start."""
    assert smoothed_dice([[0.6, 0.8]] * 3) == pytest.approx([0.7] * 3)


def test_an_average_weighs_the_past_by_nine_tenths() -> None:
    """Two validations: (0.9 * 0 + 1) / 1.9. One over cases that have no class changes nothing."""
    assert smoothed_dice([[0.0], [1.0], [None]]) == pytest.approx([0, 1 / 1.9, 1 / 1.9])


def test_one_lucky_validation_is_not_the_best() -> None:
    """An outlier in a falling series does not win over a steady rise after it."""
    smoothed = smoothed_dice([[d] for d in (0.5, 0.9, 0.5, *[0.8] * 10)])
    assert best_epoch(smoothed) == 12


def test_reasons_to_stop() -> None:
    """The target is reached, or so many epochs went by without a new best; else training goes on."""
    assert reason_to_stop([0.5, 0.8], None, 0.8) == "the smoothed Dice, 0.8000, has reached 0.8"
    assert reason_to_stop([0.8, 0.7, 0.75], 2, None) == "the smoothed Dice has not risen for 2 epochs"
    assert reason_to_stop([0.8, 0.7, 0.85], 2, 0.9) is None
    assert reason_to_stop([0.8, 0.7, 0.75], None, None) is None


def test_a_cooldown_runs_through_what_is_left_of_the_schedule() -> None:
    """At step 400 of 1000 it takes 40 steps: progress is continuous there and 1 at step 440."""
    budget = Budget(epochs=100, iterations=10, batch_size=2, seconds=None, recipe="muon")
    cooldown = Cooldown.begin(400, budget.progress(400, 0), budget.iterations)
    assert [budget.progress(step, 0, cooldown) for step in (400, 420, 440)] == pytest.approx([0.4, 0.7, 1.0])
