"""Budgets."""

import pytest

from unetpipe.dataset.planning.plan import Configuration
from unetpipe.training.budget_choice import BudgetChoice
from unetpipe.training.optimization.recipe import choose_recipe
from unetpipe.training.schedule import Budget


def choice(*, steps: int = 10_000, iterations: int = 250, seconds: float = 100.0) -> BudgetChoice:
    """A small 2-D configuration for so many steps."""
    configuration = Configuration(
        spacing_mm=(1.0, 1.0),
        interpolation=("cubic", "cubic"),
        median_shape=(8, 8),
        patch_size=(8, 8),
        batch_size=4,
        strides=((1, 1), (2, 2)),
        kernel_sizes=((3, 3), (3, 3)),
        features=(32, 64),
    )
    return BudgetChoice(
        name="2d",
        configuration=configuration,
        steps=steps,
        wanted=1000,
        iterations=iterations,
        step_seconds=0.01,
        seconds=seconds,
        setup_seconds=0.0,
        held_out=3,
        considered=(),
    )


def test_published_length_gets_the_published_recipe() -> None:
    """1000 epochs of 250 steps: SGD; a few thousand steps: one cycle of Muon."""
    assert Budget.plan(epochs=None, iterations=250, batch_size=9, choice=None) == Budget(
        epochs=1000, iterations=250, batch_size=9, seconds=None, recipe="sgd"
    )
    assert choose_recipe(5000) == "muon"


def test_budget_in_minutes_ends_by_the_clock() -> None:
    """Progress is time over budget, whatever the number of steps turns out to be."""
    budget = Budget.plan(epochs=None, iterations=250, batch_size=9, choice=choice())
    assert budget.batch_size == 4
    assert budget.progress(0, 50) == pytest.approx(0.5, abs=0.01)
    assert budget.progress(100 * budget.iterations, 99) < 1 <= budget.progress(0, 100)


def test_epochs_and_minutes_end_with_what_comes_first() -> None:
    """Both limits hold."""
    budget = Budget.plan(epochs=2, iterations=10, batch_size=4, choice=choice())
    assert budget.progress(20, 1) == 1
    assert budget.progress(1, 100) == pytest.approx(1)


def test_preparation_is_repaid_by_long_runs() -> None:
    """By what is left, in time where there is a limit and in steps where there is none."""
    timed = Budget.plan(epochs=None, iterations=250, batch_size=4, choice=choice(seconds=3600))
    assert timed.repays_preparation(0, 100)
    assert not timed.repays_preparation(0, 3000)
    published = Budget.plan(epochs=None, iterations=250, batch_size=4, choice=None)
    assert published.repays_preparation(0, 1e6)
    assert not published.repays_preparation(249_000, 0)
