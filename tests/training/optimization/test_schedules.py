"""Learning rates over a run, by word, by definition and by what an extension registers."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from unetpipe.components import register
from unetpipe.errors import ComponentError
from unetpipe.training.optimization.schedules import make_schedule


def test_polynomial_decay_is_as_published() -> None:
    """(1 - t)^0.9, and before the start and after the end as there."""
    poly = make_schedule("poly")
    assert [poly(t) for t in (-1, 0, 0.5, 1, 2)] == pytest.approx([1, 1, 0.5**0.9, 0, 0])
    assert make_schedule({"_target_": "poly", "exponent": 2})(0.5) == 0.25


def test_one_cycle_rises_and_falls() -> None:
    """Up to the peak at a tenth, down to almost nothing at the end, without a jump."""
    one_cycle = make_schedule("one_cycle")
    factors = [one_cycle(n / 1000) for n in range(1001)]
    assert factors.index(max(factors)) == 100
    assert factors[100] == 1
    assert factors[-1] < 0.01
    assert max(abs(a - b) for a, b in pairwise(factors)) < 0.03


def test_cosine_and_constant_are_what_they_are_called() -> None:
    """Half a cosine from 1 to 0; 1 throughout."""
    assert [make_schedule("cosine")(t) for t in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert {make_schedule("constant")(t) for t in (0, 0.3, 1)} == {1.0}


@pytest.mark.parametrize(
    ("scheduler", "arguments", "length"),
    [
        ("CosineAnnealingLR", {}, {"T_max": 1000}),
        ("StepLR", {"step_size": 300, "gamma": 0.5}, {}),
        ("MultiStepLR", {"milestones": [600, 900]}, {}),
        ("OneCycleLR", {"pct_start": 0.2}, {"total_steps": 1000, "max_lr": 1.0, "cycle_momentum": False}),
        ("PolynomialLR", {"power": 2.0}, {"total_iters": 1000}),
    ],
)
def test_schedulers_of_pytorch_count_thousandths_of_the_run(
    scheduler: str, arguments: dict[str, Any], length: dict[str, Any]
) -> None:
    """After n thousandths of a run the factor is the learning rate after n steps of a run of 1000, from 1."""
    schedule = make_schedule({"_target_": f"torch.optim.lr_scheduler.{scheduler}"} | arguments)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = getattr(torch.optim.lr_scheduler, scheduler)(optimizer, **arguments, **length)
    for step in range(1000):
        if step in (0, 1, 299, 300, 650, 999):
            assert schedule((step + 0.5) / 1000) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < 999:
            oracle.step()
    assert schedule(1.0) == schedule(0.9995)


def test_an_extension_registers_a_function_of_progress() -> None:
    """What the registered function returns is the schedule, with the arguments of the definition."""
    register("schedule", "test_stairs")(lambda stairs: lambda progress: 1 - int(progress * stairs) / (stairs + 1))
    assert make_schedule({"_target_": "test_stairs", "stairs": 2})(0.6) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (lambda _: float("nan"), "of 0 or more, got nan"),
        (lambda progress: 0.5 - progress, "of 0 or more, got -0.01"),
        (lambda _: 0.0, "got 0 throughout"),
        (lambda: 1.0, "gives no factor for a progress"),
    ],
)
def test_what_is_no_factor_is_refused(factor: Any, message: str) -> None:
    """Before training, over the whole run, in one line."""
    name = f"test {message}"
    register("schedule", name)(lambda: factor)
    with pytest.raises(ComponentError, match=message) as error:
        make_schedule(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("polly", "there is no schedule 'polly': expected one of constant, cosine, one_cycle, poly"),
        ({"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau"}, "cannot be stepped through a run: .*metrics"),
        ({"_target_": "torch.optim.lr_scheduler.LambdaLR"}, "cannot be built: .*lr_lambda"),
        ({"_target_": "torch.optim.lr_scheduler.OneCycleLR", "cycle_momentum": True}, "only the learning rate"),
        (
            {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.01},
            "max_lr is 1, got 0.01",
        ),
        ({"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 10, "gamma": -1}, "of 0 or more, got -1"),
    ],
)
def test_schedulers_that_need_more_than_progress_are_refused(named: Any, message: str) -> None:
    """In one line that says why."""
    with pytest.raises(ComponentError, match=message) as error:
        make_schedule(named)
    assert "\n" not in str(error.value)
