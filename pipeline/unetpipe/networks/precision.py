"""Cases in which half precision must not be used although the hardware has it, and its effect on logits."""

import torch
from torch import Tensor, nn

from unetpipe.imaging.geometry import Shape
from unetpipe.networks.device import autocast, exact


def trainable_dtype(
    network: nn.Module, channels: int, patch: Shape, device: torch.device, dtype: torch.dtype
) -> torch.dtype:
    """Return `dtype`, or float32 where training in it would go wrong.

    oneDNN's bfloat16 weight gradient of a 3-D convolution with kernel 3 over an input that is two voxels deep (the
    first spatial axis) reads memory that nobody wrote: NaN, or finite and wrong by its own size. Seen with torch 2.13
    on a CPU with avx512_bf16; other depths, 2-D, and the forward pass are right. So on a CPU the network is run once to
    see whether any of its convolutions meets such an input, as the classic U-Net's lowest levels do with small patches.

    Args:
        network: A network on the CPU.
        channels: C, channels of the image.
        patch: Spatial shape of the network's input in training.
        device: Device that it will be trained on.
        dtype: Type of matrix products that is asked for.
    """
    if device.type != "cpu" or dtype != torch.bfloat16 or len(patch) != 3:
        return dtype
    hit = False

    def look(module: nn.Conv3d, inputs: tuple[Tensor, ...]) -> None:
        nonlocal hit
        hit |= inputs[0].shape[2] == 2 and module.kernel_size[0] == 3

    hooks = [m.register_forward_pre_hook(look) for m in network.modules() if isinstance(m, nn.Conv3d)]
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, channels, *patch))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return torch.float32 if hit else dtype


def differing_share(
    network: nn.Module, reference: nn.Module, window: Tensor, dtype: torch.dtype, *, overlapping: bool = False
) -> float:
    """Share of a window's voxels to which a network gives another class than the same network does in float32.

    Args:
        network: A network that is prepared to compute in `dtype`.
        reference: Float32 copy of the network, on the window's device.
        window: Network input, (B, C, *patch).
        dtype: Type of matrix products.
        overlapping: Whether channels are regions, each of which is found where its logit is positive, and not classes.
    """

    def found(logits: Tensor) -> Tensor:
        return logits > 0 if overlapping else logits.argmax(dim=1, keepdim=True)

    with torch.inference_mode():
        with autocast(window.device, dtype):
            labels = found(network(window))
        expected = found(reference(window))
    return float(exact((labels != expected).any(dim=1)).mean())
