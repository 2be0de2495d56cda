"""Optimisers by their name or by definition, each with the learning rate and weight decay that suit it."""

from collections.abc import Callable, Iterable

import torch
from torch import nn

from unetpipe.components import Definition, build, first_line, register, target_of
from unetpipe.errors import ComponentError
from unetpipe.training.optimization.muon import Muon

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

register("optimizer", "muon")(Muon)


@register("optimizer", "sgd")
def sgd(
    params: Iterable[nn.Parameter],
    lr: float = 1e-2,
    weight_decay: float = 3e-5,
    momentum: float = 0.99,
    nesterov: bool = True,
) -> torch.optim.SGD:
    """nnU-Net's (Isensee et al. 2021, Nat. Methods 18:203), as one kernel for all weights on a GPU."""
    every = list(params)
    fused = all(parameter.is_cuda for parameter in every) or None  # which is PyTorch's own choice
    return torch.optim.SGD(every, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=fused)


@register("optimizer", "adamw")
def adamw(
    params: Iterable[nn.Parameter],
    lr: float = 2e-3,
    weight_decay: float = 1e-2,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, ICLR)."""
    return torch.optim.AdamW(params, lr=lr, betas=betas, weight_decay=weight_decay)


def optimizer_factory(
    named: str | Definition, learning_rate: float | None = None, weight_decay: float | None = None
) -> OptimizerFactory:
    """Prepare an optimiser; its parameters come later.

    Args:
        named: Name of an optimiser, or a MONAI definition.
        learning_rate: Peak learning rate; None leaves the optimiser's own.
        weight_decay: Weight decay; None leaves the optimiser's own.

    Raises:
        ComponentError: If the definition says otherwise.
    """
    given = {"lr": learning_rate, "weight_decay": weight_decay}
    given = {name: value for name, value in given.items() if value is not None}
    own = named if isinstance(named, dict) else {}
    for name, value in given.items():
        if own.get(name, value) != value:
            raise ComponentError(f"optimizer {target_of(named)} has {name} {own[name]}, and the option says {value}")

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = build("optimizer", named, params=parameters, **given)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ComponentError(f"{target_of(named)} is a {type(optimizer).__name__}, not an optimizer of PyTorch")
        return optimizer

    return make


def require_a_step(name: str, make: OptimizerFactory, network: nn.Module) -> None:
    """Take one step with copies of a network's weights, before training does with the weights themselves.

    Args:
        name: Name of the optimiser.
        make: Function that builds the optimiser.
        network: Whose weights it will learn.

    Raises:
        ComponentError: If it cannot be built or cannot take a step, or weights stay where they are or become NaN.
    """
    before = [parameter.detach().clone() for parameter in network.parameters() if parameter.requires_grad]
    parameters = [nn.Parameter(weights.clone()) for weights in before]
    optimizer = make(parameters)
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    try:
        optimizer.step()
    except Exception as error:  # such as a closure that is asked for
        raise ComponentError(f"optimizer {name} cannot take a step: {first_line(error)}") from error
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise ComponentError(f"optimizer {name} makes weights NaN or infinite in its first step")
    if all(torch.equal(parameter, weights) for parameter, weights in zip(parameters, before, strict=True)):
        raise ComponentError(f"optimizer {name} leaves every weight where it is")
