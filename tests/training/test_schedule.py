"""Budgets."""

import pytest

from unetpipe.errors import TrainingError
from unetpipe.training.calibration import ENOUGH_ITERATIONS, Measure, Measurement, calibrate
from unetpipe.training.optimization.recipe import choose_recipe
from unetpipe.training.schedule import Budget


def costs(step_seconds: float, ending_seconds: float = 0.0, elapsed_seconds: float = 0.0) -> Measure:
    """A device on which steps always take as long, and so does what comes after the last one."""
    return lambda *_: Measurement(
        step_seconds=step_seconds, ending_seconds=ending_seconds, elapsed_seconds=elapsed_seconds
    )


def test_published_length_gets_the_published_recipe() -> None:
    """1000 epochs of 250 steps: SGD; a few thousand steps: one cycle of Muon."""
    assert Budget.plan(epochs=None, iterations=250, batch_size=9, calibration=None) == Budget(
        epochs=1000, iterations=250, batch_size=9, seconds=None, recipe="sgd"
    )
    assert choose_recipe(5000) == "muon"


def test_budget_in_minutes_ends_by_the_clock() -> None:
    """Progress is time over budget, whatever the number of steps turns out to be."""
    calibration = calibrate((32, 64), 4, costs(0.01, 10.0), limit_seconds=110)
    budget = Budget.plan(epochs=None, iterations=250, batch_size=4, calibration=calibration)
    assert calibration.features == (32, 64)
    assert budget.progress(0, 50) == pytest.approx(0.5, abs=0.01)
    assert budget.progress(100 * budget.iterations, 99) < 1 <= budget.progress(0, 100)


def test_epochs_and_minutes_end_with_what_comes_first() -> None:
    """Both limits hold."""
    calibration = calibrate((32,), 4, costs(0.01), limit_seconds=100)
    budget = Budget.plan(epochs=2, iterations=10, batch_size=4, calibration=calibration)
    assert budget.progress(20, 1) == 1
    assert budget.progress(1, 100) == pytest.approx(1)


def test_preparation_is_repaid_by_long_runs() -> None:
    """By what is left, in time where there is a limit and in steps where there is none."""
    calibration = calibrate((32,), 4, costs(0.1), limit_seconds=3600)
    timed = Budget.plan(epochs=None, iterations=250, batch_size=4, calibration=calibration)
    assert timed.repays_preparation(0, 100)
    assert not timed.repays_preparation(0, 3000)
    published = Budget.plan(epochs=None, iterations=250, batch_size=4, calibration=None)
    assert published.repays_preparation(0, 1e6)
    assert not published.repays_preparation(249_000, 0)


@pytest.mark.parametrize(
    ("seconds", "features", "batch_size"),
    [(9.1, (64, 128), 9), (8.9, (64, 128), 4), (4.1, (64, 128), 4), (3.9, (32, 64), 4), (0.5, (16, 32), 4)],
)
def test_slow_devices_get_smaller_batches_then_narrower_networks(
    seconds: float, features: tuple[int, ...], batch_size: int
) -> None:
    """Steps whose time grows with patches and with the square of the width, and so much time for each of enough."""
    calibration = calibrate(
        (64, 128),
        9,
        lambda features, patches: costs(patches * (features[0] / 64) ** 2)(features, patches),
        limit_seconds=ENOUGH_ITERATIONS * seconds,
    )
    assert (calibration.features, calibration.batch_size) == (features, batch_size)
    assert Budget.plan(epochs=None, iterations=250, batch_size=9, calibration=calibration).batch_size == batch_size


def test_small_batches_stay_and_ranks_keep_a_patch_each() -> None:
    """A batch of 2 is not made larger; six processes need six patches."""
    free = {"limit_seconds": 60.0}
    assert calibrate((16,), 2, costs(1.0), **free).batch_size == 2
    assert calibrate((16,), 9, costs(1.0), smallest_batch=6, **free).batch_size == 6


def test_width_has_a_floor_and_no_time_is_an_error() -> None:
    """Never below 16; and a budget too short for one step says so."""
    calibration = calibrate((32, 64), 4, costs(50.0), limit_seconds=60)
    assert calibration.features == (16, 32)
    with pytest.raises(TrainingError, match="not enough"):
        calibrate((32, 64), 4, costs(50.0, 20.0), limit_seconds=60)
