"""Optimisers, and learning rates as functions of progress: a budget in minutes is then as good as one in epochs."""

import math
from typing import Literal

import torch
from torch import nn

from unetpipe.training.optimization.muon import Muon

Recipe = Literal["sgd", "muon"]

LONG_RUN = 50_000  # iterations from which the published SGD recipe is used
_PEAK = {"sgd": 1e-2, "muon": 5e-3}
_WARM_UP = 0.1  # of a one-cycle run
_FIRST, _LAST = 0.04, 0.001  # of the peak


def choose_recipe(iterations: int) -> Recipe:
    """Pick SGD with Nesterov momentum and polynomial decay for long runs, Muon with one cycle for short ones."""
    return "sgd" if iterations >= LONG_RUN else "muon"


def make_optimizer(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser at its peak learning rate.

    Source:
        sgd: Isensee et al. 2021, Nat. Methods 18:203. muon: see `Muon`.
    """
    parameters = network.parameters()
    if recipe == "sgd":
        return torch.optim.SGD(parameters, lr=_PEAK["sgd"], momentum=0.99, nesterov=True, weight_decay=3e-5)
    return Muon(parameters, lr=_PEAK["muon"], weight_decay=1e-2)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """Learning rate at `progress`, from 0 at the start to 1 at the end.

    sgd: (1 - progress)^0.9. muon: one cycle (Smith 2018), cosine up over the first tenth, cosine down over the rest.
    """
    progress = min(max(progress, 0.0), 1.0)
    peak = _PEAK[recipe]
    if recipe == "sgd":
        return float(peak * (1 - progress) ** 0.9)
    if progress < _WARM_UP:
        return peak * (_FIRST + (1 - _FIRST) * _cosine_rise(progress / _WARM_UP))
    return peak * (_LAST + (1 - _LAST) * (1 - _cosine_rise((progress - _WARM_UP) / (1 - _WARM_UP))))


def _cosine_rise(x: float) -> float:
    return (1 - math.cos(math.pi * x)) / 2
