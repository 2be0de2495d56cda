"""Weights that training starts from, and what becomes of them: slower learning, or none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unetpipe.errors import TrainingError


@dataclass(frozen=True)
class StartingWeights:
    """Weights of another model.

    Attributes:
        weights: Tensors by their name in the network's state dict; names that are missing start anew.
        rate: Learning rate of these weights, as a share of that of all others.
        frozen: Names of parameters that stay as they are.
    """

    weights: Mapping[str, Tensor]
    rate: float
    frozen: frozenset[str]

    def load_into(self, network: nn.Module) -> None:
        """Give a network the weights, and take the gradient from those that stay.

        Raises:
            TrainingError: If a weight is none of the network's, or has another shape.
        """
        own = network.state_dict()
        for name, tensor in self.weights.items():
            if name not in own or own[name].shape != tensor.shape:
                shape = tuple(own[name].shape) if name in own else "none"
                raise TrainingError(f"the weight {name} has shape {tuple(tensor.shape)}, the network's {shape}")
        network.load_state_dict({**own, **self.weights})
        for name, parameter in network.named_parameters(remove_duplicate=False):
            if name in self.frozen:
                parameter.requires_grad_(False)

    def slow_down(self, optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
        """Give the loaded weights parameter groups of their own, whose learning rate is lower."""
        loaded = {id(p) for name, p in network.named_parameters(remove_duplicate=False) if name in self.weights}
        groups = []
        for group in optimizer.param_groups:
            for chosen, rate in ((False, 1.0), (True, self.rate)):
                parameters = [p for p in group["params"] if (id(p) in loaded) == chosen]
                if parameters:
                    groups.append({**group, "params": parameters, "lr": group["lr"] * rate})
        optimizer.param_groups[:] = groups


def still(modules: Iterable[nn.Module]) -> None:
    """Keep the running statistics of layers whose parameters all stay as they are."""
    for module in modules:
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()
