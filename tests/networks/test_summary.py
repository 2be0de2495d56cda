"""A network's stages, and what they cost."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unetpipe.dataset.planning.plan import Configuration
from unetpipe.networks.build import build_network
from unetpipe.networks.definition import network_definition
from unetpipe.networks.summary import summarize_network
from unetpipe.report.network_drawing import draw


def build(network: str, patch: tuple[int, ...], classes: int = 3) -> nn.Module:
    dims = len(patch)
    plan = Configuration(
        spacing_mm=(1.0,) * dims,
        interpolation=("cubic",) * dims,
        median_shape=patch,
        patch_size=patch,
        batch_size=2,
        strides=((1,) * dims, (2,) * dims, (2,) * dims),
        kernel_sizes=((3,) * dims,) * 3,
        features=(4, 8, 16),
    )
    options = {"feature_size": 12, "depths": [1, 1, 1, 1]} if network == "swinunetr" else {}
    return build_network(network_definition(network, plan, 1, classes, options=options))


def test_costs_of_a_convolution() -> None:
    """3x3x3 from 2 to 5 channels on 4x6x8 voxels, and a 1x1x1 head: products and bytes by hand."""
    network = nn.Sequential(nn.Conv3d(2, 5, 3, padding=1), nn.ReLU(inplace=True), nn.Conv3d(5, 3, 1))
    (stage,) = summarize_network(network, 2, (4, 6, 8))
    voxels = 4 * 6 * 8
    assert stage.flops == 2 * voxels * (27 * 2 * 5 + 5 * 3)
    assert stage.bytes == 4 * voxels * (5 + 3)
    assert stage.parameters == 27 * 2 * 5 + 5 + 5 * 3 + 3
    assert [(step.kind, step.words) for step in stage.steps] == [("conv", "conv 3x3x3"), ("head", "conv 1x1x1")]


@pytest.mark.parametrize("network", ["dynunet", "resenc", "unet", "segresnet"])
@pytest.mark.parametrize("patch", [(16, 32, 16), (32, 16)])
def test_stages_add_up(network: str, patch: tuple[int, ...]) -> None:
    """Down and up again; parameters are all of the network's, and products those that torch counts in a real pass."""
    built = build(network, patch)
    parameters = sum(parameter.numel() for parameter in built.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built.eval()(torch.zeros(1, 1, *patch))
    stages = summarize_network(built, 1, patch)
    shapes = [stage.shape for stage in stages]
    assert shapes == shapes[::-1]
    assert shapes[0] == patch
    assert shapes[1] == tuple(n // 2 for n in patch)
    assert sum(stage.flops for stage in stages) == counter.get_total_flops()
    assert sum(stage.parameters for stage in stages) == parameters


def test_a_transformer_has_no_stages() -> None:
    """Rather none than some that leave things out."""
    assert summarize_network(build("swinunetr", (64, 32)), 1, (64, 32)) == []
    assert draw([]) == ""


def test_drawing() -> None:
    """The U of the paper: convolutions along, pooling down, up-convolution up, copies across, the head at the end."""
    assert draw(summarize_network(build("unet", (32, 16)), 1, (32, 16))).splitlines() == [
        "32x16  1 →² 4 ┄┄┄┄┄┄┄ copy ┄┄┄┄┄┄▸ 8 →² 4 ⇒ 3",
        "           ↓ max pool 2x2          ↑ up-conv 2x2",
        "16x8       4 →² 8 ┄┄┄ copy ┄┄▸ 16 →² 8",
        "               ↓ max pool 2x2  ↑ up-conv 2x2",
        "8x4            8 →² 16",
        "",
        "→ conv 3x3   ⇒ conv 1x1   ┄▸ copy and concatenate   numbers are channels, →² two in a row",
    ]
