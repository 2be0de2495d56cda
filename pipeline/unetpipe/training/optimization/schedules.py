"""Learning-rate schedules as functions of progress: a budget in minutes is then as good as one in epochs."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from unetpipe.components import Definition, build, find, first_line, register, takes, target_of
from unetpipe.errors import ComponentError

Schedule = Callable[[float], float]
"""Maps progress, 0 at the start of training and 1 at its end, to a factor of the peak learning rate."""

_STEPS = 1000  # of a scheduler of PyTorch's over the whole run
_LENGTHS = ("T_max", "total_steps", "total_iters", "t_total")  # their names for how many steps there are
_CHECKED = 100  # points at which a schedule is tried before training


@register("schedule", "poly")
def poly(exponent: float = 0.9) -> Schedule:
    """Polynomial decay to 0 (Isensee et al. 2021, Nat. Methods 18:203)."""
    return lambda progress: float((1 - progress) ** exponent)


@register("schedule", "one_cycle")
def one_cycle(warm_up: float = 0.1, first: float = 0.04, last: float = 0.001) -> Schedule:
    """Cosine from `first` to 1 over a share `warm_up` of the run, cosine to `last` over the rest (Smith 2018)."""

    def factor(progress: float) -> float:
        if progress < warm_up:
            return first + (1 - first) * _cosine_rise(progress / warm_up)
        return last + (1 - last) * (1 - _cosine_rise((progress - warm_up) / (1 - warm_up)))

    return factor


@register("schedule", "cosine")
def cosine() -> Schedule:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, ICLR), without restarts."""
    return lambda progress: 1 - _cosine_rise(progress)


@register("schedule", "constant")
def constant() -> Schedule:
    """The peak learning rate throughout."""
    return lambda _: 1.0


def make_schedule(named: str | Definition) -> Schedule:
    """Build a schedule and try it over the whole run.

    A registered name stands for a function that returns a `Schedule`. A scheduler of PyTorch's or MONAI's counts steps
    instead, whose number is not known where a run ends by the clock. So it is stepped 1000 times before training, on an
    optimiser of its own with learning rate 1, and its n-th value holds for the n-th thousandth of the run: `step_size`,
    `milestones`, `T_max` and the like are thousandths. The number of all steps is passed where it is asked for.
    Schedulers that wait for a metric, or that move momentum too, are refused, and so is a highest rate other than 1: it
    would be taken for a rate, and is a share of that of the optimiser.

    Args:
        named: Name of a schedule, or a MONAI definition.

    Raises:
        ComponentError: If there is no such schedule, or it is not a finite factor of at least 0 at every progress.
    """
    target = target_of(named)
    factory = find("schedule", target)
    if isinstance(factory, type) and issubclass(factory, LRScheduler):
        schedule = _tabulated(named, factory)
    else:
        schedule = build("schedule", named)
    try:
        factors = [float(schedule(step / _CHECKED)) for step in range(_CHECKED + 1)]
    except Exception as error:  # of foreign code
        raise ComponentError(
            f"schedule {target} maps no progress from 0 to 1 to a factor: {first_line(error)}"
        ) from error
    wrong = next((factor for factor in factors if not (math.isfinite(factor) and factor >= 0)), None)
    if wrong is not None or not any(factors):
        found = "0 throughout" if wrong is None else f"{wrong:g}"
        raise ComponentError(f"schedule {target} should give factors of the learning rate of 0 or more, got {found}")
    return lambda progress: float(schedule(min(max(progress, 0.0), 1.0)))


def _tabulated(named: str | Definition, scheduler_class: type[LRScheduler]) -> Schedule:
    """The factors that a scheduler gives a learning rate of 1 at each thousandth of the run."""
    target = target_of(named)
    if isinstance(named, dict) and named.get("cycle_momentum"):
        raise ComponentError(f"schedule {target}: only the learning rate is scheduled, not momentum (cycle_momentum)")
    if isinstance(named, dict) and named.get("max_lr", 1) != 1:
        raise ComponentError(
            f"schedule {target}: its rates are shares of the highest, which --learning-rate says: "
            f"max_lr is 1, got {named['max_lr']!r}"
        )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    known: dict[str, Any] = dict.fromkeys(_LENGTHS, _STEPS) | {"cycle_momentum": False, "max_lr": 1.0}
    given = {name: value for name, value in known.items() if name in takes(scheduler_class)}
    scheduler = build("schedule", named, optimizer=optimizer, **given)
    factors = [float(optimizer.param_groups[0]["lr"])]
    try:
        while len(factors) < _STEPS:
            optimizer.step()
            scheduler.step()
            factors.append(float(optimizer.param_groups[0]["lr"]))
    except Exception as error:  # such as a metric that is asked for
        raise ComponentError(f"schedule {target} cannot be stepped through a run: {first_line(error)}") from error
    return lambda progress: factors[min(int(progress * _STEPS), _STEPS - 1)]


def _cosine_rise(x: float) -> float:
    return (1 - math.cos(math.pi * x)) / 2
