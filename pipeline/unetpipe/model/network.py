"""Networks are MONAI's, named by a plain config dict that a bundle carries unchanged.

Shape legend: B batch, C channels, L classes; spatial axes are (I, J, K) or (I, J).
"""

import importlib
from typing import Any

import torch
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from unetpipe.config import Network
from unetpipe.dataset.plan import Configuration
from unetpipe.errors import BundleError, PlanError

Definition = dict[str, Any]

_ALLOWED = "monai.networks.nets."
_CLASSIC_POOLINGS = 4  # BasicUNet has five levels, always


def network_definition(
    network: Network,
    configuration: Configuration,
    in_channels: int,
    classes: int,
    features: tuple[int, ...] | None = None,
) -> Definition:
    """Describe a network for a plan's configuration, as JSON that MONAI's ConfigParser instantiates.

    Args:
        network: ``dynunet`` follows the plan stage by stage (as nnU-Net's plain U-Net does); ``unet`` is the classic
            U-Net: two convolutions + batch norm + ReLU per level, max pooling, transposed convolutions, skip
            connections by concatenation, 1x1 head.
        configuration: Resolution, patch and topology.
        in_channels: C.
        classes: L, background included. The classic U-Net has one output for two classes (see `build_network`).
        features: Channels per stage, in place of the plan's.

    Raises:
        PlanError: If the patch is too small for the network.

    Source:
        dynunet: Isensee et al. 2021, Nat. Methods 18:203. unet: Ronneberger et al. 2015 and Çiçek et al. 2016, MICCAI.
    """
    features = features or configuration.features
    dims = configuration.spatial_dims
    if network == "unet":
        if min(configuration.patch_size) < 2**_CLASSIC_POOLINGS:
            raise PlanError(
                f"the classic U-Net halves every axis {_CLASSIC_POOLINGS} times and needs a patch of at least "
                f"{2**_CLASSIC_POOLINGS} voxels, got {configuration.patch_size}: use --network dynunet"
            )
        first = features[0]
        return {
            "_target_": "monai.networks.nets.BasicUNet",
            "spatial_dims": dims,
            "in_channels": in_channels,
            "out_channels": 1 if classes == 2 else classes,
            "features": [first, first * 2, first * 4, first * 8, first * 16, first],
            "act": ["relu", {"inplace": True}],
            "norm": ["batch", {"affine": True}],
            "upsample": "deconv",
        }
    kernels = [list(kernel) for kernel in configuration.kernel_sizes]
    strides = [list(stride) for stride in configuration.strides]
    filters = list(features)
    while len(strides) < 3:  # DynUNet has at least three stages: more of the deepest one, without pooling
        kernels, strides, filters = [*kernels, kernels[-1]], [*strides, [1] * dims], [*filters, filters[-1]]
    return {
        "_target_": "monai.networks.nets.DynUNet",
        "spatial_dims": dims,
        "in_channels": in_channels,
        "out_channels": classes,
        "kernel_size": kernels,
        "strides": strides,
        "upsample_kernel_size": strides[1:],
        "filters": filters,
        "norm_name": ["instance", {"affine": True}],
        "act_name": ["leakyrelu", {"inplace": True, "negative_slope": 0.01}],
        "trans_bias": True,
    }


def build_network(definition: Definition) -> nn.Module:
    """Instantiate a network that maps (B, C, ...) to one logit per class, (B, L, ...).

    A network with a single output channel (binary, sigmoid) gets the background's logit, which is 0, put in front:
    softmax((0, z)) = (1 - sigmoid(z), sigmoid(z)), so that nothing downstream knows the difference. Done in a forward
    hook, so the weights keep their names.

    Raises:
        BundleError: If the definition names anything but a network of MONAI, or arguments it does not take.
    """
    target = str(definition.get("_target_", ""))
    name = target.removeprefix(_ALLOWED)
    if not target.startswith(_ALLOWED) or "." in name:
        raise BundleError(f"network target must be a class of {_ALLOWED.rstrip('.')}, got {target!r}")
    networks = importlib.import_module(_ALLOWED.rstrip("."))
    constructor = getattr(networks, name, None)
    if not (isinstance(constructor, type) and issubclass(constructor, nn.Module)):
        raise BundleError(f"MONAI has no network {name!r}")
    arguments = {key: value for key, value in definition.items() if not key.startswith("_")}
    try:
        network = constructor(**arguments)
    except (TypeError, ValueError) as error:
        raise BundleError(f"{name} cannot be built from the definition: {error}") from error
    if definition.get("out_channels") == 1:
        network.register_forward_hook(_with_background)
    return network


def _with_background(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(output), output], dim=1)


class DeepSupervision(nn.Module):
    """A DynUNet with 1x1 heads on its lower decoder levels, for training only.

    The wrapped network is the one that is deployed: its own weights, no heads in it. Each head reads its level at its
    native resolution, whereas DynUNet's own deep supervision upsamples every head to full size.

    Attributes:
        network: DynUNet built with ``deep_supervision=False``.
        heads: Finest level first. The lowest decoder level has none: nnU-Net gives it weight 0.
    """

    def __init__(self, network: DynUNet) -> None:
        super().__init__()
        self.network = network
        convolution = nn.Conv3d if network.spatial_dims == 3 else nn.Conv2d
        widths = network.filters[1 : len(network.upsamples) - 1]
        self.heads = nn.ModuleList(convolution(width, network.out_channels, kernel_size=1) for width in widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (B, C, ...) to logits (B, L, ...), first at full resolution, then at each level that has a head."""
        network = self.network
        skips = [network.input_block(x)]
        for block in network.downsamples:
            skips.append(block(skips[-1]))
        x = network.bottleneck(skips[-1])
        levels = []
        for block, skip in zip(network.upsamples, reversed(skips), strict=True):
            x = block(x, skip)
            levels.append(x)
        finest = network.output_block(levels[-1])
        lower = [head(level) for head, level in zip(self.heads, levels[-2::-1], strict=False)]
        return [finest, *lower]
