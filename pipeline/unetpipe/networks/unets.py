"""U-Nets of any depth, composed of MONAI's and PyTorch's layers by a config alone.

MONAI's `BasicUNet` always has five levels, MONAI has no residual encoder of nnU-Net's kind, and a bundle may hold no
code. So the definition nests the layers themselves, one level inside the other::

    level i = [encoder i, skip([down i, level i + 1, up i]), decoder i]      skip: its input, beside its output
    network = [level 0, 1x1 head]

``[...]`` is a ``torch.nn.Sequential``. MONAI's config language passes arguments by name, which a Sequential does not
take. Its method ``extend`` takes the layers as a list and returns the Sequential, so that
``torch.nn.Sequential.extend(self=<an empty one>, sequential=[...])`` is one in plain JSON. Weights are named by the
position of their layer, so that their names follow from the plan.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from unetpipe.components import Definition
from unetpipe.dataset.planning.plan import Configuration
from unetpipe.imaging.geometry import Shape

Upsampling = Literal["transposed", "interpolated"]
Normalization = Literal["batch", "instance", "none"]

CLASSIC, RESIDUAL = "U-Net", "residual-encoder U-Net"

_RELU = ["relu", {"inplace": True}]
_LEAKY = ["leakyrelu", {"inplace": True, "negative_slope": 0.01}]
_INSTANCE = ["instance", {"affine": True}]


def classic_unet(
    plan: Configuration,
    in_channels: int,
    out_channels: int,
    features: Sequence[int],
    *,
    norm: Normalization = "batch",
    upsampling: Upsampling = "transposed",
) -> Definition:
    """Define the U-Net of the paper, with a level for each of the plan's stages.

    Each level has two convolutions with ReLU. Levels are joined by max pooling with the stage's strides, up-convolution
    and concatenation, and a 1x1 convolution is the head. Convolutions are padded, so that the output is as large as the
    input.

    Args:
        plan: Configuration that gives strides and kernels.
        in_channels: Number of image channels, C.
        out_channels: Channels of the head.
        features: Channels of each level, finest first.
        norm: Norm between convolution and ReLU: the 3-D U-Net has one, the paper of 2015 has none.
        upsampling: ``transposed`` convolution, or linear interpolation and a convolution.

    Source:
        Ronneberger et al. 2015 and Çiçek et al. 2016, MICCAI.
    """
    dims, kernels, strides = plan.spatial_dims, plan.kernel_sizes, plan.strides
    chosen = {"batch": ["batch", {"affine": True}], "instance": _INSTANCE, "none": None}[norm]

    def convolution(inputs: int, outputs: int, kernel: Shape) -> Definition:
        return _convolution(dims, inputs, outputs, kernel, act=_RELU, norm=chosen)

    def two(inputs: int, outputs: int, kernel: Shape) -> Definition:
        return sequential(convolution(inputs, outputs, kernel), convolution(outputs, outputs, kernel))

    def up(level: int) -> Definition:
        wide, narrow = features[level], features[level - 1]
        block = {"_target_": "monai.networks.blocks.UpSample", "spatial_dims": dims, "scale_factor": [*strides[level]]}
        if upsampling == "transposed":
            return block | {"in_channels": wide, "out_channels": narrow, "mode": "deconv"}
        # no `pre_conv`: convolve what was interpolated
        after = convolution(wide, narrow, kernels[level - 1])
        channels = {"in_channels": wide, "out_channels": wide}
        return block | channels | {"mode": "nontrainable", "pre_conv": None, "post_conv": after, "align_corners": False}

    pool = f"torch.nn.MaxPool{dims}d"
    inputs = (in_channels, *features)
    levels = range(len(features))
    return _compose(
        CLASSIC,
        encoders=[two(inputs[n], features[n], kernels[n]) for n in levels],
        downs=[[{"_target_": pool, "kernel_size": [*strides[n]]}] for n in levels[1:]],
        ups=[up(n) for n in levels[1:]],
        decoders=[two(2 * features[n], features[n], kernels[n]) for n in levels[:-1]],
        head=_head(dims, features[0], out_channels),
    )


def residual_unet(
    plan: Configuration, in_channels: int, out_channels: int, features: Sequence[int], blocks: Sequence[int]
) -> Definition:
    """Define nnU-Net's U-Net with residual encoder: residual blocks in the encoder, one convolution per decoder level.

    The shortcut of a block with a stride is averaged and projected (ResNet-D). Where the plan's kernel is 1 along an
    axis, MONAI has only a block whose shortcut is a strided 1x1 convolution. Convolutions before a norm have no bias,
    which the norm would take away again.

    Args:
        plan: Configuration that gives strides and kernels.
        in_channels: Number of image channels, C.
        out_channels: Channels of the head.
        features: Channels of each stage, finest first.
        blocks: Number of residual blocks of each stage.

    Source:
        Isensee et al. 2024, nnU-Net revisited, MICCAI (arXiv 2404.09556).
    """
    dims, kernels, strides = plan.spatial_dims, plan.kernel_sizes, plan.strides

    def encoder(stage: int, inputs: int) -> list[Definition]:
        widths = [inputs] + [features[stage]] * blocks[stage]
        steps = [strides[stage]] + [(1,) * dims] * (blocks[stage] - 1)
        return [
            _residual_block(dims, a, b, kernels[stage], s) for (a, b), s in zip(pairwise(widths), steps, strict=True)
        ]

    def up(stage: int) -> Definition:
        return {
            "_target_": "monai.networks.blocks.UpSample",
            "spatial_dims": dims,
            "in_channels": features[stage],
            "out_channels": features[stage - 1],
            "scale_factor": [*strides[stage]],
            "mode": "deconv",
        }

    def convolution(inputs: int, outputs: int, kernel: Shape) -> Definition:
        return _convolution(dims, inputs, outputs, kernel, act=_LEAKY, norm=_INSTANCE)

    stages = range(len(features))
    stem = convolution(in_channels, features[0], kernels[0])
    return _compose(
        RESIDUAL,
        encoders=[sequential(*([stem] if n == 0 else []), *encoder(n, features[max(n - 1, 0)])) for n in stages],
        downs=[[] for _ in stages[1:]],
        ups=[up(n) for n in stages[1:]],
        decoders=[sequential(convolution(2 * features[n], features[n], kernels[n])) for n in stages[:-1]],
        head=_head(dims, features[0], out_channels),
    )


def sequential(*layers: Definition) -> Definition:
    """Define ``torch.nn.Sequential(*layers)``."""
    empty = {"_target_": "torch.nn.Sequential"}
    return {"_target_": "torch.nn.Sequential.extend", "self": empty, "sequential": list(layers)}


def _compose(
    name: str,
    *,
    encoders: list[Definition],
    downs: list[list[Definition]],
    ups: list[Definition],
    decoders: list[Definition],
    head: Definition,
) -> Definition:
    *upper, level = encoders
    for encoder, down, up, decoder in reversed(list(zip(upper, downs, ups, decoders, strict=True))):
        below = sequential(*down, level, up)
        level = sequential(encoder, {"_target_": "monai.networks.layers.SkipConnection", "submodule": below}, decoder)
    return sequential(level, head) | {"_desc_": name}


def _convolution(dims: int, inputs: int, outputs: int, kernel: Shape, *, act: Any, norm: Any) -> Definition:
    return {
        "_target_": "monai.networks.blocks.Convolution",
        "spatial_dims": dims,
        "in_channels": inputs,
        "out_channels": outputs,
        "kernel_size": [*kernel],
        "act": act,
        "norm": norm,
        "bias": norm is None,
    }


def _head(dims: int, inputs: int, outputs: int) -> Definition:
    layer = f"torch.nn.Conv{dims}d"
    return {"_target_": layer, "in_channels": inputs, "out_channels": outputs, "kernel_size": 1}


def _residual_block(dims: int, inputs: int, outputs: int, kernel: Shape, stride: Shape) -> Definition:
    if set(kernel) != {3}:
        return {
            "_target_": "monai.networks.blocks.UnetResBlock",
            "spatial_dims": dims,
            "in_channels": inputs,
            "out_channels": outputs,
            "kernel_size": [*kernel],
            "stride": [*stride],
            "norm_name": _INSTANCE,
            "act_name": _LEAKY,
        }
    shortcut = []
    if max(stride) > 1:
        shortcut.append({"_target_": f"torch.nn.AvgPool{dims}d", "kernel_size": [*stride]})
    if inputs != outputs:
        shortcut.append(_convolution(dims, inputs, outputs, (1,) * dims, act=None, norm=_INSTANCE))
    return {
        "_target_": "monai.networks.nets.resnet.ResNetBlock",
        "in_planes": inputs,
        "planes": outputs,
        "spatial_dims": dims,
        "stride": [*stride],
        "downsample": sequential(*shortcut) if shortcut else None,
        "act": _LEAKY,
        "norm": _INSTANCE,
    }
