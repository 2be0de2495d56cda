"""A network with channels last computes what it did."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from unetpipe.networks.memory_format import use_fastest_layout

LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}
CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def use_channels_last(network: nn.Module, dims: int = 3) -> nn.Module:
    assert use_fastest_layout(network, torch.device("cpu"), dims) == LAYOUTS[dims]
    return network


def network(affine: bool, dims: int) -> nn.Sequential:
    torch.manual_seed(0)
    norm, convolution = NORMS[dims](6, affine=affine), CONVOLUTIONS[dims]
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return nn.Sequential(convolution(2, 6, 3, padding=1), norm, nn.LeakyReLU(0.01, inplace=True), convolution(6, 1, 1))


@pytest.mark.parametrize(
    "more", [{"padding": 1}, {"stride": 2, "bias": False}, {"padding": 2, "dilation": 2}, {"padding": "same"}]
)
def test_a_sample_alone_in_float32_is_convolved_by_onednn(more: dict[str, Any]) -> None:
    """Values and gradients are torch's, whose own slower convolution is not what computes them."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv3d(4, 8, 3, **more))
    ours = use_channels_last(copy.deepcopy(plain))
    a = torch.randn(1, 4, 9, 8, 7)
    b = a.clone().to(memory_format=torch.channels_last_3d)
    expected = plain(a.requires_grad_())
    with profile(activities=[ProfilerActivity.CPU]) as calls:
        found = ours(b.requires_grad_())
    assert ("aten::slow_conv3d" in {event.key for event in calls.key_averages()}) == (more == {"padding": "same"})
    torch.testing.assert_close(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours[0].weight.grad, plain[0].weight.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("affine", [True, False])
def test_values_and_gradients_are_those_of_torch(affine: bool, dims: int) -> None:
    """Forward and every gradient, for several samples of odd size, in float64."""
    plain, ours = network(affine, dims).double(), use_channels_last(network(affine, dims).double(), dims)
    size = (5, 7, 4)[:dims]
    x = torch.randn(3, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    a, b = x.clone().requires_grad_(), x.to(memory_format=LAYOUTS[dims]).requires_grad_()
    expected, found = plain(a), ours(b)
    torch.testing.assert_close(found, expected)
    weight = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    torch.testing.assert_close(b.grad, a.grad)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("dims", [2, 3])
def test_layout_is_kept_and_names_are_unchanged(dims: int) -> None:
    """What comes out has channels last; the state dict is the plain network's."""
    ours = use_channels_last(network(True, dims), dims)
    out = ours[:3](torch.randn(2, 2, *[6] * dims).to(memory_format=LAYOUTS[dims]))
    assert out.is_contiguous(memory_format=LAYOUTS[dims])
    assert not out.is_contiguous()
    assert ours.state_dict().keys() == network(True, dims).state_dict().keys()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_bfloat16_is_as_close_as_torch_s_own(dims: int, affine: bool) -> None:
    """In bfloat16 with float32 weights, as under autocast, or without weights: rounding, no more."""
    norm = NORMS[dims](6, affine=affine)
    x = torch.randn(2, 6, *[8] * dims, generator=torch.Generator().manual_seed(1)).to(memory_format=LAYOUTS[dims])
    exact = norm(x)
    half = x.bfloat16().requires_grad_()
    found = use_channels_last(norm, dims)(half)
    assert found.dtype == torch.bfloat16
    (found.float() * x).sum().backward()
    assert half.grad is not None
    assert half.grad.isfinite().all()
    torch.testing.assert_close(found.float(), exact, atol=0.04, rtol=0.01)


def test_running_statistics_are_left_to_torch() -> None:
    """A norm that tracks statistics is another thing, and stays what it was."""
    norm = use_channels_last(nn.Sequential(nn.InstanceNorm3d(2, track_running_stats=True)))[0]
    assert type(norm) is nn.InstanceNorm3d
