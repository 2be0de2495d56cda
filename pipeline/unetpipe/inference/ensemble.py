"""Networks as one: what turns windows into mean logits."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unetpipe.components import first_line
from unetpipe.errors import BundleError, is_out_of_memory
from unetpipe.inference.agreement import Agreement
from unetpipe.inference.resampling import label_dtype
from unetpipe.networks.device import autocast
from unetpipe.networks.memory_format import use_fastest_layout

log = logging.getLogger(__name__)

_Convolution = nn.modules.conv._ConvNd
_STATELESS = ("torch.", "monai.", "unetpipe.networks.")
"""Packages whose layers several threads may run at once."""


class _Found(NamedTuple):
    """Mean logits of some windows, and the classes that each member gave their voxels, if they are compared."""

    logits: Tensor
    labels: Sequence[Tensor]


class Ensemble:
    """Mean logits of several networks, and of mirrored copies of the input on request.

    When the device's memory runs out, windows are taken half as many at a time from then on.

    On a CPU the windows of a batch are divided among threads that have some of the cores each: threads that share the
    work on one small window wait for each other most of the time, the more so on a machine that does other work.

    Args:
        networks: Networks, at least one, in evaluation mode and on `device`.
        device: The device that computes.
        dtype: Type of matrix products; logits of several members are summed in float32.
        mirror_axes: Spatial axes to mirror: the mean is over all 2^n combinations of n axes.
        compare: Whether it is counted how far several members agree.

    Attributes:
        networks, device: Networks and device, as given.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        *,
        device: torch.device,
        dtype: torch.dtype,
        mirror_axes: Sequence[int] = (),
        compare: bool = True,
    ) -> None:
        self.networks = networks
        self.device = device
        self._dtype, self._compare = dtype, compare
        axes = [axis + 2 for axis in mirror_axes]
        self._flips = [dims for n in range(len(axes) + 1) for dims in combinations(axes, n)]
        self._most: int | None = None
        kinds = {type(module).__module__ for network in networks for module in network.modules()}
        self._divides = device.type == "cpu" and all(kind.startswith(_STATELESS) for kind in kinds)

    def __call__(self, windows: Tensor, agreements: Sequence[Agreement] = ()) -> Tensor:
        """Map windows (B, C, *patch) to logits (B, L, *patch).

        Args:
            windows: Windows of one or several volumes.
            agreements: Where to count, window by window, how far the members agree; a single member's is not counted.

        Raises:
            torch.OutOfMemoryError: If not even one window fits.
        """
        count = min(self._most or len(windows), len(windows))
        while True:
            try:
                parts = [self._divided(windows[n : n + count]) for n in range(0, len(windows), count)]
                break
            except RuntimeError as error:  # torch.OutOfMemoryError is one, and CPUs raise a plain one
                if count == 1 or not is_out_of_memory(error):
                    raise
            count = self._most = count // 2
            log.warning("out of memory: going on with %d windows at a time", count)
        found = _joined(parts)
        if found.labels:
            for agreement, *labels in zip(agreements, *found.labels, strict=False):
                agreement.add(labels, found.logits.shape[1])
        return found.logits

    def _divided(self, windows: Tensor) -> _Found:
        cores = torch.get_num_threads()
        parts = windows.chunk(cores) if self._divides else (windows,)
        if len(parts) == 1:
            return self._members(windows)

        def run(part: Tensor) -> _Found:
            torch.set_num_threads(cores // len(parts))  # of this thread
            return self._members(part)

        try:
            with ThreadPoolExecutor(len(parts), "windows") as threads:
                return _joined(list(threads.map(run, parts)))
        finally:
            torch.set_num_threads(cores)  # of this thread, and of those to come

    @torch.inference_mode()  # which belongs to a thread
    def _members(self, windows: Tensor) -> _Found:
        members = len(self.networks) * len(self._flips)
        windows = windows.to(self.device)
        if members == 1:
            return _Found(self._run(self.networks[0], windows), ())
        total: Tensor | None = None
        labels: list[Tensor] = []
        for dims in self._flips:
            mirrored = windows.flip(dims) if dims else windows
            for network in self.networks:
                logits = self._run(network, mirrored).float()
                logits = logits.flip(dims) if dims else logits
                if self._compare:
                    labels.append(logits.argmax(dim=1).to(label_dtype(logits.shape[1])))
                # of its own: a network may return its input, or a tensor that it keeps
                total = logits.clone() if total is None else total.add_(logits)
        assert total is not None
        return _Found(total.div_(members), labels)

    def _run(self, network: nn.Module, windows: Tensor) -> Tensor:
        try:
            with autocast(self.device, self._dtype):
                logits: Tensor = network(windows)
        except Exception as error:  # a definition from elsewhere may be built, and not compute
            if is_out_of_memory(error):
                raise
            shape = " x ".join(map(str, windows.shape[1:]))
            raise BundleError(f"the network fails on a window of {shape}: {first_line(error)}") from error
        return logits


def _joined(parts: Sequence[_Found]) -> _Found:
    if len(parts) == 1:
        return parts[0]
    members = zip(*(part.labels for part in parts), strict=True)
    return _Found(torch.cat([part.logits for part in parts]), [torch.cat(labels) for labels in members])


def for_inference(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Prepare a network for inference on a device; it cannot be trained afterwards.

    The weights of convolutions are cast to `dtype` once and laid out as the device computes fastest. Autocast would
    cast them for every window, to the same products. Normalisation stays in float32.
    """
    for module in network.modules():
        if isinstance(module, _Convolution):
            module.to(dtype)
    dims = 3 if any(isinstance(module, nn.Conv3d) for module in network.modules()) else 2
    use_fastest_layout(network.to(device), device, dims)
    return network.eval().requires_grad_(False)
