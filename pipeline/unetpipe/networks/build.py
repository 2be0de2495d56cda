"""From a network's definition, a plain dict that a bundle carries unchanged, to the network.

Shape legend: B batch, C channels, L classes; spatial axes are (I, J, K) or (I, J).
"""

import importlib
from typing import Any

import torch
from monai.networks.blocks import UnetResBlock
from monai.networks.nets.resnet import ResNetBlock
from torch import Tensor, nn

from unetpipe.components import DESCRIPTION, TARGET, Definition, arguments_of, build, first_line
from unetpipe.errors import BundleError, ComponentError

NETWORKS = "monai.networks.nets."

_SEQUENTIAL = "torch.nn.Sequential.extend"
_LAYERS = {
    "monai.networks.blocks.Convolution",
    "monai.networks.blocks.UnetResBlock",
    "monai.networks.blocks.UpSample",
    "monai.networks.layers.SkipConnection",
    "monai.networks.nets.resnet.ResNetBlock",
    "torch.nn.AvgPool2d",
    "torch.nn.AvgPool3d",
    "torch.nn.Conv2d",
    "torch.nn.Conv3d",
    "torch.nn.MaxPool2d",
    "torch.nn.MaxPool3d",
}


def build_network(definition: Definition) -> nn.Module:
    """Instantiate a network that maps (B, C, ...) to one logit per output, (B, L, ...).

    A definition names a class of MONAI's networks or a registered one, or is composed of the few layers that
    `networks/unets.py` uses.

    A network with a single output channel (binary, sigmoid) gets the background's logit, which is 0, put in front:
    softmax((0, z)) = (1 - sigmoid(z), sigmoid(z)), so that nothing downstream knows the difference. Done in a forward
    hook, so the weights keep their names.

    Raises:
        BundleError: If the definition names anything else, or arguments it does not take.
    """
    if definition.get(TARGET) == _SEQUENTIAL:
        network: nn.Module = _layer(definition)
        _initialize(network)
    else:
        try:
            network = build("network", definition)
        except ComponentError as error:
            raise BundleError(str(error)) from error
        if not isinstance(network, nn.Module):
            raise BundleError(f"network {definition[TARGET]} is a {type(network).__name__}, not a torch.nn.Module")
    if output_channels(definition) == 1:
        network.register_forward_hook(_put_background)
    return network


def is_monai_alone(definition: Definition) -> bool:
    """Whether MONAI builds the network without an extension."""
    return definition.get(TARGET) == _SEQUENTIAL or str(definition.get(TARGET)).startswith(NETWORKS)


def network_name(definition: Definition) -> str:
    """Name of the network for people: its description, or else its class."""
    return str(definition.get(DESCRIPTION) or str(definition[TARGET]).rsplit(".", 1)[-1])


def input_channels(definition: Definition) -> int:
    """C: channels of the image."""
    return _channels(definition, "in_channels", 0)


def output_channels(definition: Definition) -> int:
    """Channels of the network's own output: L, or 1 where it gives the foreground's logit of two classes alone."""
    return _channels(definition, "out_channels", -1)


def network_features(definition: Definition) -> tuple[int, ...]:
    """Channels per stage, finest first; empty for a network whose arguments do not name them."""
    if "sequential" not in definition:
        given = definition.get("filters") or definition.get("channels") or definition.get("features") or ()
        return tuple(int(width) for width in given)
    level, widths = definition["sequential"][0], []
    while True:
        parts = level["sequential"]
        encoder, *skip = parts if any("submodule" in part for part in parts) else [level]
        last = encoder["sequential"][-1]
        widths.append(int(last.get("out_channels") or last["planes"]))
        if not skip:
            return tuple(widths)
        level = skip[0]["submodule"]["sequential"][-2]


def _channels(definition: Definition, key: str, layer: int) -> int:
    while "sequential" in definition:
        definition = definition["sequential"][layer]
    return int(definition.get(key, 0))


def _layer(definition: Any) -> Any:
    """Build one part of a composed network, and what is inside it."""
    if not isinstance(definition, dict) or TARGET not in definition:
        return definition
    target = definition[TARGET]
    if target == _SEQUENTIAL:
        layers = definition.get("sequential")
        if not isinstance(layers, list):
            raise BundleError(f"{_SEQUENTIAL} needs a list of layers")
        return nn.Sequential(*(_layer(layer) for layer in layers))
    if target not in _LAYERS:
        raise BundleError(f"network layer must be one of {', '.join(sorted(_LAYERS))}, got {target!r}")
    module, name = target.rsplit(".", 1)
    constructor = getattr(importlib.import_module(module), name)
    try:
        return constructor(**{key: _layer(value) for key, value in arguments_of(definition).items()})
    except (ComponentError, TypeError, ValueError, KeyError, AssertionError) as error:
        raise BundleError(f"layer {name} cannot be built from the definition: {first_line(error)}") from error


def _initialize(network: nn.Module) -> None:
    """Initialise as nnU-Net does: He's initialisation, and residual blocks that begin as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        last = {ResNetBlock: "bn2", UnetResBlock: "norm2"}.get(type(module))
        if last:
            nn.init.zeros_(getattr(module, last).weight)


def _put_background(_network: nn.Module, _inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
    return with_background(logits)


def with_background(logits: Tensor) -> Tensor:
    """Put the background's logit, which is 0, in front of the foreground's: (B, 1, ...) becomes (B, 2, ...)."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1)
