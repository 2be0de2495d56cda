"""The memory format that convolutions are fastest with, and on a CPU the layers that make the most of it."""

from typing import Any

import torch
from torch import Tensor, nn

from unetpipe.networks.torchscript import is_scripted

_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
"""Memory format by number of spatial axes."""


def use_fastest_layout(network: nn.Module, device: torch.device, dims: int) -> torch.memory_format:
    """Give a network's weights the memory format that convolutions on a device are fastest with, in place.

    On a CPU it is channels last, in 2-D and 3-D: networks take about two thirds of the time with it
    (docs/benchmarks.md). On a GPU it is the usual one: cuDNN's convolutions prefer channels last, but torch's instance
    norm copies such tensors before and after, which takes longer than cuDNN's own change of format
    (docs/benchmarks.md). The state dict and the values stay the same. TorchScript stays as it is.

    Args:
        network: A network on `device`.
        device: Device that the network will run on.
        dims: Number of spatial axes of its input.

    Returns:
        The memory format that the network's inputs should have.
    """
    if is_scripted(network):
        return torch.contiguous_format
    if device.type == "cuda":
        # patches and windows keep one shape, so that trying algorithms out pays, but not always with one outcome
        torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    if device.type != "cpu" or dims not in _CHANNELS_LAST:
        return torch.contiguous_format
    for part in network.modules():
        if type(part) in _NORMS and not part.track_running_stats:
            part.__class__ = _NORMS[type(part)]
        if type(part) is nn.Conv3d and part.padding_mode == "zeros" and not isinstance(part.padding, str):
            part.__class__ = OneDnnConv3d
    layout = _CHANNELS_LAST[dims]
    network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stub
    return layout


class OneDnnConv3d(nn.Conv3d):
    """`nn.Conv3d` whose single samples are convolved by oneDNN too.

    PyTorch leaves a sample that comes alone in float32 to its own convolution where channels times the first two axes
    are no more than 20,480, as in every stage of a narrow network and the deepest ones of any. That one takes several
    times as long (docs/benchmarks.md). Parameters are the same, and values but for rounding.

    Source:
        ``ConvParams::use_mkldnn`` in PyTorch's ``aten/src/ATen/native/Convolution.cpp``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, I, J, K)."""
        alone = len(x) == 1 and x.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not (alone and torch._C._has_mkldnn):
            return super().forward(x)
        convolved: Tensor = torch.ops.aten.mkldnn_convolution(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )
        return convolved


class _OneByOne(nn.modules.instancenorm._InstanceNorm):
    """Instance norm of one sample after the other, each as a batch of its own.

    PyTorch's own folds samples into channels, for which a channels-last tensor has to be copied, forward and backward.
    Its batch norm works on that memory format as it is. Values and parameters are the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) in its own memory format."""
        apply: Any = _InstanceNorm.apply  # which carries no types
        normalised: Tensor = apply(x, self.weight, self.bias, self.eps)
        return normalised


class ChannelsLastInstanceNorm2d(_OneByOne, nn.InstanceNorm2d):
    """`nn.InstanceNorm2d`, one sample after the other."""


class ChannelsLastInstanceNorm3d(_OneByOne, nn.InstanceNorm3d):
    """`nn.InstanceNorm3d`, one sample after the other."""


_NORMS: dict[type[nn.Module], Any] = {
    nn.InstanceNorm2d: ChannelsLastInstanceNorm2d,
    nn.InstanceNorm3d: ChannelsLastInstanceNorm3d,
}


class _InstanceNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
        out, scale, shift = torch.empty_like(x), weight, bias
        # else torch wants statistics of such precision
        if weight is None and x.dtype in (torch.bfloat16, torch.float16):
            scale, shift = torch.ones(x.shape[1]), torch.zeros(x.shape[1])
        statistics = torch.empty((2, *x.shape[:2]), dtype=torch.promote_types(x.dtype, torch.float32))
        for n in range(len(x)):
            parts = (out[n : n + 1], *statistics[:, n])
            torch.native_batch_norm(x[n : n + 1], scale, shift, None, None, True, 0.0, eps, out=parts)
        ctx.save_for_backward(x, weight, statistics)
        ctx.eps = eps
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, statistics = ctx.saved_tensors
        affine = weight is not None
        gradient = gradient.contiguous(memory_format=_CHANNELS_LAST[x.ndim - 2])
        to_x, to_weight, to_bias = torch.empty_like(x), [], []
        for n in range(len(x)):
            one = slice(n, n + 1)
            to_x[one], dw, db = torch.ops.aten.native_batch_norm_backward(
                gradient[one], x[one], weight, None, None, *statistics[:, n], True, ctx.eps, [True, affine, affine]
            )
            to_weight.append(dw)
            to_bias.append(db)
        if not affine:
            return to_x, None, None, None
        return to_x, torch.stack(to_weight).sum(0), torch.stack(to_bias).sum(0), None
