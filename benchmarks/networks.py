"""Our networks beside nnU-Net's own: parameters, and logits with the same weights.

    python benchmarks/networks.py NNUNET_SITE_PACKAGES

`NNUNET_SITE_PACKAGES` is where nnU-Net's `dynamic_network_architectures` is installed. It is only read from.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unetpipe.dataset.planning.plan import Configuration
from unetpipe.networks.build import build_network
from unetpipe.networks.deep_supervision import levels_of
from unetpipe.networks.definition import network_definition

BLOCKS = (1, 3, 4, 6, 6, 6)
PLANS = {
    "hippocampus": ((40, 56, 40), ((1, 1, 1), *((2, 2, 2),) * 3), ((3, 3, 3),) * 4),
    "cubic, six stages": ((64, 64, 64), ((1, 1, 1), *((2, 2, 2),) * 5), ((3, 3, 3),) * 6),
    "thick slices": (
        (16, 64, 64),
        ((1, 1, 1), (1, 2, 2), *((2, 2, 2),) * 3, (1, 2, 2)),
        (*((1, 3, 3),) * 2, *((3, 3, 3),) * 4),
    ),
}


def main() -> None:
    """Print a line per plan and network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nnunet", type=Path)
    sys.path.append(str(parser.parse_args().nnunet))
    torch.manual_seed(0)
    print(f"{'plan':18} {'network':8} {'ours':>11} {'nnU-Net':>11} {'biases':>7} {'heads':>6} {'difference':>11}")
    for name, (patch, strides, kernels) in PLANS.items():
        plan = Configuration(
            spacing_mm=(1.0,) * 3,
            interpolation=("cubic",) * 3,
            median_shape=patch,
            patch_size=patch,
            batch_size=2,
            strides=strides,
            kernel_sizes=kernels,
            features=tuple(min(320, 32 * 2**n) for n in range(len(strides))),
        )
        for network in ("dynunet", "resenc"):
            ours, theirs = build_network(network_definition(network, plan, 1, 3)), _nnunet(network, plan)
            heads = sum(head.weight.numel() + head.bias.numel() for head in theirs.decoder.seg_layers[:-1])
            convolutions = [m for n, m in theirs.named_modules() if isinstance(m, nn.Conv3d) and "seg_layers" not in n]
            biases = sum(module.bias.numel() for module in convolutions if module.bias is not None)
            difference = f"{_difference(ours, theirs, patch):11.1e}" if network == "resenc" else ""
            counts = f"{_count(ours):11,} {_count(theirs):11,} {biases:7,} {heads:6,}"
            print(f"{name:18} {network:8} {counts} {difference}")
    print("biases: nnU-Net's before a norm, which takes them away. heads: of lower levels, for deep supervision.")


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _nnunet(network: str, plan: Configuration) -> Any:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

    stages = len(plan.features)
    kind, depth = (
        (PlainConvUNet, {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2})
        if network == "dynunet"
        else (ResidualEncoderUNet, {"n_blocks_per_stage": BLOCKS[:stages], "n_conv_per_stage_decoder": 1})
    )
    built = kind(
        1,
        stages,
        plan.features,
        nn.Conv3d,
        plan.kernel_sizes,
        plan.strides,
        num_classes=3,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=False,
        **depth,
    )
    for module in built.modules():  # not all 1 and 0, so that a norm in the wrong place would show
        if isinstance(module, nn.InstanceNorm3d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return built


@torch.no_grad()
def _difference(ours: Any, theirs: Any, patch: tuple[int, ...]) -> float:
    """Largest difference of logits once ours has the residual encoder's weights."""
    body, head = ours
    levels = levels_of(body)
    encoders = [*(encoder for encoder, _, _ in levels), levels[-1][1][-2]]
    _take(encoders[0][0], theirs.encoder.stem.convs[0])
    for stage, encoder in zip(theirs.encoder.stages, encoders, strict=True):
        for block, source in zip(list(encoder)[-len(stage.blocks) :], stage.blocks, strict=True):
            _take_block(block, source)
    for (_, between, decoder), up, stage in zip(
        reversed(levels), theirs.decoder.transpconvs, theirs.decoder.stages, strict=True
    ):
        between[-1].deconv.load_state_dict(up.state_dict())
        _take(decoder[0], stage.convs[0])
        weight = decoder[0].conv.weight  # nnU-Net puts what comes from below first
        weight.copy_(weight.roll(weight.shape[1] // 2, dims=1))
    head.load_state_dict(theirs.decoder.seg_layers[-1].state_dict())
    x = torch.randn(1, 1, *patch)
    return float((ours.eval()(x) - theirs.eval()(x)).abs().max())


def _take(convolution: Any, source: Any) -> None:
    convolution.conv.weight.copy_(source.conv.weight)
    convolution.adn.N.load_state_dict(source.norm.state_dict())


def _take_block(block: Any, source: Any) -> None:
    plain = hasattr(block, "bn1")  # MONAI's ResNetBlock; else its UnetResBlock
    for number, part in enumerate((source.conv1, source.conv2), start=1):
        convolution = getattr(block, f"conv{number}")
        (convolution if plain else convolution.conv).weight.copy_(part.conv.weight)
        getattr(block, f"bn{number}" if plain else f"norm{number}").load_state_dict(part.norm.state_dict())
    if plain and block.downsample is not None:
        for ours, theirs in zip(block.downsample, source.skip, strict=True):
            if hasattr(theirs, "conv"):
                _take(ours, theirs)
    elif not plain and block.downsample:
        block.conv3.conv.weight.copy_(source.skip[-1].conv.weight)
        block.norm3.load_state_dict(source.skip[-1].norm.state_dict())


if __name__ == "__main__":
    main()
