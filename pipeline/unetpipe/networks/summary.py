"""A network's layers, parameters and operations by stage, measured on PyTorch's meta device, without data."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unetpipe.components import first_line
from unetpipe.errors import ComponentError
from unetpipe.imaging.geometry import Shape
from unetpipe.networks.torchscript import is_scripted

Kind = Literal["conv", "pool", "up", "head"]

_CONVOLUTIONS = nn.Conv2d | nn.Conv3d
_TRANSPOSED = nn.ConvTranspose2d | nn.ConvTranspose3d
_POOLS = nn.MaxPool2d | nn.MaxPool3d
_BYTES = 4  # float32


@dataclass
class Step:
    """One layer that is drawn: a convolution, a pooling or an upsampling.

    Attributes:
        kind: ``conv``; ``pool`` for a pooling or a convolution with a stride; ``up`` for a transposed convolution or an
            interpolation; ``head`` for the last 1x1 convolution.
        words: The layer in the U-Net paper's words: ``conv 3x3x3``, ``max pool 2x2x2``, ``up-conv 2x2x2``.
        channels: Channels of its input and of its output.
    """

    kind: Kind
    words: str
    channels: tuple[int, int]


@dataclass
class Stage:
    """Layers in a row whose outputs have one size.

    Attributes:
        shape: Spatial shape of the feature maps, in voxels.
        steps: Layers of the stage that are drawn, in the order in which they run. A layer that changes the size belongs
            to the stage that it leads to.
        parameters: Parameters of all its layers, norms included.
        flops: Floating-point operations of its products for one patch; a multiplication and an addition are two.
        bytes: Size of all its layers' outputs for one patch in float32, as training keeps them.
    """

    shape: Shape
    steps: list[Step] = field(default_factory=list)
    parameters: int = 0
    flops: int = 0
    bytes: int = 0

    @property
    def channels(self) -> int:
        """Channels of the feature map that leaves the stage; logits are none."""
        features = [step.channels[1] for step in self.steps if step.kind != "head"]
        return features[-1] if features else self.steps[-1].channels[1]


def summarize_network(network: nn.Module, channels: int, patch: Shape) -> list[Stage]:
    """Take a network apart, from its input to its output.

    Args:
        network: A network from (B, C, ...) to (B, L, ...). It is moved to the meta device and loses its weights.
        channels: Number of image channels, C.
        patch: Spatial shape of its input.

    Returns:
        A stage each time the size of feature maps changes. Layers beside the path, such as a shortcut's, count in the
        stage of their output, but are no step. Empty for a transformer or TorchScript, which have no such stages.

    Raises:
        ComponentError: If the network does not run on such an input.
    """
    if is_scripted(network):
        return []
    network = network.to("meta").eval()
    stages: list[Stage] = []
    with torch.no_grad(), _watched(network, len(patch), stages) as counter:
        try:
            network(torch.empty(1, channels, *patch, device="meta"))
        except Exception as error:  # of whatever kind the layers raise
            size = "x".join(map(str, patch))
            raise ComponentError(f"the network does not run on a patch of {size}: {first_line(error)}") from error
    parameters = sum(parameter.numel() for parameter in network.parameters())
    whole = (sum(stage.parameters for stage in stages), sum(stage.flops for stage in stages))
    if whole != (parameters, counter.get_total_flops()) or not all(stage.steps for stage in stages):
        return []
    one = " " + "x".join("1" * len(patch))
    if stages[-1].steps[-1].words.endswith(one):
        stages[-1].steps[-1].kind = "head"
    for stage in stages:  # any other 1x1 convolution is a shortcut's
        stage.steps = [step for step in stage.steps if step.kind != "conv" or not step.words.endswith(one)]
    return stages


@contextmanager
def _watched(network: nn.Module, dims: int, stages: list[Stage]) -> Iterator[FlopCounterMode]:
    """Fill `stages` while the network runs."""
    seen: Counter[nn.Module] = Counter()
    counter = FlopCounterMode(display=False)
    before: dict[nn.Module, int] = {}

    def enter(layer: nn.Module, _inputs: Any) -> None:
        before[layer] = counter.get_total_flops()

    def leave(layer: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim != dims + 2:
            return
        shape = tuple(output.shape[2:])
        if not stages or stages[-1].shape != shape:
            stages.append(Stage(shape))
        stage = stages[-1]
        if not seen[layer]:
            stage.parameters += sum(parameter.numel() for parameter in layer.parameters())
        seen[layer] += 1
        stage.flops += counter.get_total_flops() - before[layer]
        if not getattr(layer, "inplace", False) and not isinstance(layer, nn.Identity | nn.Dropout):
            stage.bytes += output.numel() * _BYTES
        step = _step(layer, inputs[0].shape[1], output.shape[1], dims)
        if step is not None:
            stage.steps.append(step)

    leaves = [module for module in network.modules() if not list(module.children())]
    hooks = [leaf.register_forward_pre_hook(enter) for leaf in leaves]
    hooks += [leaf.register_forward_hook(leave) for leaf in leaves]
    try:
        with counter:
            yield counter
    finally:
        for hook in hooks:
            hook.remove()


def _step(layer: nn.Module, inputs: int, outputs: int, dims: int) -> Step | None:
    if isinstance(layer, _TRANSPOSED):
        return Step("up", f"up-conv {_times(layer.kernel_size, dims)}", (inputs, outputs))
    if isinstance(layer, nn.Upsample):
        return Step("up", f"interpolate {_times(layer.scale_factor, dims)}", (inputs, outputs))
    if isinstance(layer, _POOLS):
        return Step("pool", f"max pool {_times(layer.kernel_size, dims)}", (inputs, outputs))
    if isinstance(layer, _CONVOLUTIONS):
        kernel = _times(layer.kernel_size, dims)
        if math.prod(layer.stride) > 1 and math.prod(layer.kernel_size) > 1:
            return Step("pool", f"conv {kernel} stride {_times(layer.stride, dims)}", (inputs, outputs))
        return Step("conv", f"conv {kernel}", (inputs, outputs))
    return None


def _times(size: Any, dims: int) -> str:
    values = size if isinstance(size, tuple | list) else (size,) * dims
    return "x".join(f"{value:g}" for value in values)
