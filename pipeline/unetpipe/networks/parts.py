"""The parts of any network that fine-tuning treats apart: its head, and its encoder."""

import copy
import math

import torch
from torch import nn

from unetpipe.components import Definition
from unetpipe.imaging.geometry import Shape
from unetpipe.networks.build import build_network, input_channels, output_channels

_LAYERS = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Upsample


def with_outputs(definition: Definition, outputs: int) -> Definition:
    """The definition of the same network with another number of output channels."""
    changed = copy.deepcopy(definition)
    layer = changed
    while "sequential" in layer:
        layer = layer["sequential"][-1]
    layer["out_channels"] = outputs
    return changed


def head_names(definition: Definition) -> frozenset[str]:
    """Names of the weights whose shape depends on the number of output channels."""
    outputs = output_channels(definition)
    one, other = (_shapes(with_outputs(definition, count)) for count in (outputs, outputs + 1))
    return frozenset(name for name, shape in one.items() if other[name] != shape)


def encoder_names(definition: Definition, patch: Shape) -> frozenset[str]:
    """Names of the parameters that are used before the feature maps become larger for the first time.

    Args:
        definition: Definition of the network.
        patch: Spatial shape of its input.
    """
    with torch.device("meta"), torch.no_grad():
        network = build_network(definition).eval()
        used: list[nn.Module] = []
        smallest, grown = math.inf, False

        def note(module: nn.Module, _inputs: object, output: object) -> None:
            nonlocal smallest, grown
            if isinstance(module, _LAYERS) and isinstance(output, torch.Tensor):
                size = output.shape[2:].numel()
                grown |= size > smallest
                smallest = min(smallest, size)
            if not grown:
                used.append(module)

        handles = [
            module.register_forward_hook(note)
            for module in network.modules()
            if module._parameters or isinstance(module, _LAYERS)
        ]
        network(torch.empty(2, input_channels(definition), *patch))
        for handle in handles:
            handle.remove()
    encoder = {id(parameter) for module in used for parameter in module.parameters(recurse=False)}
    named = network.named_parameters(remove_duplicate=False)
    return frozenset(name for name, parameter in named if id(parameter) in encoder)


def _shapes(definition: Definition) -> dict[str, Shape]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build_network(definition).state_dict().items()}
