"""Deep supervision: the lower levels of the decoder are compared with the label too, each at its own resolution."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers import SkipConnection
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from unetpipe.components import Definition
from unetpipe.imaging.geometry import Shape
from unetpipe.networks.build import build_network, is_monai_alone, network_name, with_background
from unetpipe.networks.unets import RESIDUAL


class DeepSupervision(nn.Module, ABC):
    """A network with 1x1 heads on its lower decoder levels, for training only.

    The wrapped network is the one that is deployed; the heads are no part of it. Each head gives logits at the native
    resolution of its level, whereas DynUNet's own deep supervision upsamples every head to full size.

    Args:
        network: The network that will be deployed.
        widths: Channels of every decoder level, finest first.
        outputs: L, channels of the logits.
        dims: Number of spatial axes.

    Attributes:
        heads: One for each level that has one, finest first. The lowest decoder level has none: nnU-Net gives it
            weight 0.
    """

    def __init__(self, network: nn.Module, widths: Sequence[int], outputs: int, dims: int) -> None:
        super().__init__()
        self.network: Any = network
        # two classes: the network's hook, which adds the background, does not see these logits
        self._single = outputs == 1
        convolution = nn.Conv3d if dims == 3 else nn.Conv2d
        self.heads = nn.ModuleList(convolution(width, outputs, kernel_size=1) for width in widths[1:-1])

    @abstractmethod
    def decode(self, x: Tensor) -> list[Tensor]:
        """Features of every decoder level, finest first."""

    @abstractmethod
    def finest(self, features: Tensor) -> Tensor:
        """Logits of the network's own head, from the features of the finest level."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, C, ...) to logits (B, L, ...), first at full resolution, then at each level that has a head."""
        features, *lower = self.decode(x)
        out = [self.finest(features), *(head(level) for head, level in zip(self.heads, lower, strict=False))]
        return [with_background(logits) for logits in out] if self._single else out


def supervised(network: nn.Module, definition: Definition) -> nn.Module:
    """Put a network under deep supervision if it was published so, else return it as it is."""
    if isinstance(network, DynUNet):
        return _DynUNet(network)
    if network_name(definition) == RESIDUAL and isinstance(network, nn.Sequential) and levels_of(network[0]):
        return _Composed(network)
    return network


def has_deep_supervision(definition: Definition) -> bool:
    """Whether `supervised` puts networks of this definition under deep supervision."""
    return network_name(definition) in (DynUNet.__name__, RESIDUAL)


def level_shapes(definition: Definition, channels: int, patch: Shape) -> list[Shape]:
    """Spatial shapes of the logits that are compared with the label, full resolution first.

    Args:
        definition: Definition of the network.
        channels: C, channels of the image.
        patch: Spatial shape of the network's input.
    """
    if not is_monai_alone(definition):  # which need not run on PyTorch's meta device, and has no heads
        return [patch]
    with torch.device("meta"), torch.no_grad():
        out = supervised(build_network(definition), definition)(torch.empty(2, channels, *patch))
    return [tuple(level.shape[2:]) for level in (out if isinstance(out, list) else [out])]


class _DynUNet(DeepSupervision):
    def __init__(self, network: DynUNet) -> None:
        widths = network.filters[: len(network.upsamples)]
        super().__init__(network, widths, network.out_channels, network.spatial_dims)

    def decode(self, x: Tensor) -> list[Tensor]:
        network = self.network
        skips = [network.input_block(x)]
        for block in network.downsamples:
            skips.append(block(skips[-1]))
        x = network.bottleneck(skips[-1])
        levels: list[Tensor] = []
        for block, skip in zip(network.upsamples, reversed(skips), strict=True):
            x = block(x, skip)
            levels.insert(0, x)
        return levels

    def finest(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network.output_block(features)
        return logits


class _Composed(DeepSupervision):
    """Walks through the levels that `networks/unets.py` nests."""

    def __init__(self, network: Any) -> None:
        body, head = network
        widths = [decoder[-1].out_channels for _, _, decoder in levels_of(body)]
        super().__init__(network, widths, head.out_channels, len(head.kernel_size))

    def decode(self, x: Tensor) -> list[Tensor]:
        body, _head = self.network
        levels = levels_of(body)
        encoded = []
        for encoder, (*down, _below, _up), _decoder in levels:
            encoded.append(encoder(x))
            x = encoded[-1]
            for layer in down:
                x = layer(x)
        x = levels[-1][1][-2](x)
        features: list[Tensor] = []
        for (_encoder, (*_down, up), decoder), skip in zip(reversed(levels), reversed(encoded), strict=True):
            x = decoder(torch.cat([skip, up(x)], dim=1))
            features.insert(0, x)
        return features

    def finest(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network[-1](features)
        return logits


def levels_of(level: nn.Module) -> list[tuple[nn.Module, nn.Sequential, Any]]:
    """Take a composed U-Net apart: encoder, what lies below, and decoder of each level but the lowest, finest first."""
    parts = list(level.children())
    if not any(isinstance(part, SkipConnection) for part in parts):
        return []
    encoder, skip, decoder = parts
    between = skip.submodule
    assert isinstance(between, nn.Sequential)
    return [(encoder, between, decoder), *levels_of(between[-2])]
