"""Weights of nnU-Net's networks under the names that MONAI's have.

What differs is the order of axes, that a convolution before an instance norm has a bias there, which the norm takes
away again, and in the residual encoder the order in which a decoder level is joined. MONAI has no residual block of
other kernels than 3, and gives a decoder level of a DynUNet the kernel of the level below: where that is larger, a
kernel of 1 along an axis becomes one of 3 whose outer entries are 0.
"""

from collections.abc import Mapping

import torch
from pydantic import ValidationError
from torch import Tensor

from unetpipe.bundle.archive import shown
from unetpipe.bundle.nnunet.plans import ModelPlan, UNetShape
from unetpipe.components import Definition
from unetpipe.dataset.planning.plan import Configuration
from unetpipe.documents import first_fault
from unetpipe.errors import BundleError
from unetpipe.imaging.geometry import Shape
from unetpipe.networks.build import build_network
from unetpipe.networks.definition import network_definition
from unetpipe.networks.unets import residual_unet

Weights = dict[str, Tensor]


def monai_network(plan: ModelPlan, channels: int, outputs: int) -> Definition:
    """Define the network of a plan as a MONAI config.

    Args:
        plan: A configuration of nnU-Net's plans.
        channels: Number of image channels.
        outputs: Number of classes or regions; 1 for the foreground's logit of two classes.

    Raises:
        BundleError: If its stages have other numbers of convolutions than MONAI's networks, or do not fit its patch.
    """
    shape = plan.network
    if set(shape.decoder) != {2 if shape.kind == "PlainConvUNet" else 1}:
        raise BundleError(f"the decoder has {list(shape.decoder)} convolutions per stage, which MONAI's does not")
    if shape.kind == "PlainConvUNet":
        if set(shape.blocks) != {2}:
            raise BundleError(f"the encoder has {list(shape.blocks)} convolutions per stage, which MONAI's does not")
        if len(shape.features) < 3:
            raise BundleError("MONAI's DynUNet has at least three stages")
        configuration, options = _configuration(plan, shape.kernel_sizes), {"out_channels": outputs}
        return network_definition("dynunet", configuration, channels, max(2, outputs), options)
    threes = tuple((3,) * len(kernel) for kernel in shape.kernel_sizes)
    return residual_unet(_configuration(plan, threes), channels, outputs, shape.features, shape.blocks)


def monai_weights(plan: ModelPlan, weights: Mapping[str, Tensor], definition: Definition) -> Weights:
    """Give weights the names, axes and kernels of the network that `monai_network` defines.

    Raises:
        BundleError: If a weight is missing, or has another shape than the plan says.
    """
    with torch.device("meta"):
        network = build_network(definition)
    converter = _Converter(plan, weights)
    found = converter.plain() if plan.network.kind == "PlainConvUNet" else converter.residual()
    own = network.state_dict(keep_vars=True)
    names = {id(tensor): name for name, tensor in own.items() if name in found}  # a DynUNet's tensors have two names
    result: Weights = {}
    for name, tensor in own.items():
        source = names.get(id(tensor))
        weight = None if source is None else _embedded(found[source], tuple(tensor.shape))
        if weight is None or weight.shape != tensor.shape:
            given = "none" if weight is None else tuple(weight.shape)
            raise BundleError(f"the weight {name} should have shape {tuple(tensor.shape)}, nnU-Net's has {given}")
        result[name] = weight
    return result


class _Converter:
    def __init__(self, plan: ModelPlan, weights: Mapping[str, Tensor]) -> None:
        self._shape: UNetShape = plan.network
        self._axes, self._weights = plan.axes, weights

    def plain(self) -> Weights:
        """For a `PlainConvUNet`, as a DynUNet."""
        last = len(self._shape.features) - 1
        found: Weights = {}
        for stage in range(last + 1):
            name = "input_block" if stage == 0 else "bottleneck" if stage == last else f"downsamples.{stage - 1}"
            for number in range(2):
                block = f"encoder.stages.{stage}.0.convs.{number}"
                found |= self._block(block, f"{name}.conv{number + 1}.conv", f"{name}.norm{number + 1}")
        for level in range(last):
            name = f"upsamples.{level}"
            found |= self._convolution(f"decoder.transpconvs.{level}", f"{name}.transp_conv.conv", bias=True)
            for number in range(2):
                block = f"decoder.stages.{level}.convs.{number}"
                target = f"{name}.conv_block"
                found |= self._block(block, f"{target}.conv{number + 1}.conv", f"{target}.norm{number + 1}")
        return found | self._convolution(f"decoder.seg_layers.{last - 1}", "output_block.conv.conv", bias=True)

    def residual(self) -> Weights:
        """For a `ResidualEncoderUNet`, as the nested layers of `residual_unet`."""
        last = len(self._shape.features) - 1
        found = self._convolution(f"decoder.seg_layers.{last - 1}", "1", bias=True)
        level = "0"
        for stage in range(last + 1):
            encoder = f"{level}.0" if stage < last else level
            found |= self._encoder(stage, encoder)
            if stage < last:
                below = f"{level}.1.submodule"
                up = last - 1 - stage
                found |= self._convolution(f"decoder.transpconvs.{up}", f"{below}.1.deconv", bias=True)
                found |= self._joined(f"decoder.stages.{up}.convs.0", f"{level}.2.0", self._shape.features[stage])
                level = f"{below}.0"
        return found

    def _encoder(self, stage: int, name: str) -> Weights:
        first = 1 if stage == 0 else 0  # the stem
        found: Weights = {}
        if stage == 0:
            found |= self._block("encoder.stem.convs.0", f"{name}.0.conv", f"{name}.0.adn.N")
        for number in range(self._shape.blocks[stage]):
            block, target = f"encoder.stages.{stage}.blocks.{number}", f"{name}.{first + number}"
            found |= self._block(f"{block}.conv1", f"{target}.conv1", f"{target}.bn1")
            found |= self._block(f"{block}.conv2", f"{target}.conv2", f"{target}.bn2")
            pooled = number == 0 and max(self._shape.strides[stage]) > 1
            skip, own = f"{block}.skip.{int(pooled)}", f"{target}.downsample.{int(pooled)}"
            if f"{skip}.conv.weight" in self._weights:
                found |= self._block(skip, f"{own}.conv", f"{own}.adn.N")
        return found

    def _joined(self, block: str, target: str, features: int) -> Weights:
        """A decoder's convolution; MONAI joins what was skipped before what comes from below, nnU-Net after it."""
        found = self._block(block, f"{target}.conv", f"{target}.adn.N")
        weight = found[f"{target}.conv.weight"]
        return found | {f"{target}.conv.weight": torch.cat([weight[:, features:], weight[:, :features]], dim=1)}

    def _block(self, block: str, convolution: str, norm: str) -> Weights:
        """A convolution and the norm after it, which takes the convolution's bias away."""
        found = self._convolution(f"{block}.conv", convolution, bias=False)
        return found | {f"{norm}.{part}": self._get(f"{block}.norm.{part}") for part in ("weight", "bias")}

    def _convolution(self, name: str, target: str, *, bias: bool) -> Weights:
        weight = self._get(f"{name}.weight")
        found = {f"{target}.weight": weight.permute(0, 1, *(2 + axis for axis in self._axes)).contiguous()}
        return found | ({f"{target}.bias": self._get(f"{name}.bias")} if bias else {})

    def _get(self, name: str) -> Tensor:
        if name not in self._weights:
            raise BundleError(f"the checkpoint has no weight {shown(name)}")
        weight = self._weights[name]
        if not weight.is_floating_point() or (name.endswith("weight") and "norm" not in name and weight.ndim != 5):
            raise BundleError(f"the weight {shown(name)} has {weight.ndim} axes, expected 5 of a 3-D convolution")
        return weight.float()


def _embedded(weight: Tensor, shape: Shape) -> Tensor:
    """A kernel of 1 along some axes in the middle of one of 3, whose outer entries are 0."""
    pairs = list(zip(weight.shape[2:], shape[2:], strict=True)) if weight.ndim == len(shape) else []
    if not any((own, wanted) == (1, 3) for own, wanted in pairs):
        return weight
    padding = [int((own, wanted) == (1, 3)) for own, wanted in reversed(pairs) for _ in range(2)]
    return torch.nn.functional.pad(weight, padding)


def _configuration(plan: ModelPlan, kernels: tuple[Shape, ...]) -> Configuration:
    shape, given = plan.network, plan.preprocessing
    try:
        return Configuration(
            spacing_mm=given.spacing_mm,
            interpolation=given.interpolation,
            median_shape=plan.patch_size,
            patch_size=plan.patch_size,
            batch_size=plan.batch_size,
            strides=shape.strides,
            kernel_sizes=kernels,
            features=shape.features,
            encoder_blocks=shape.blocks if shape.kind == "ResidualEncoderUNet" else None,
        )
    except ValidationError as error:
        raise BundleError(first_fault(error)[1]) from error
