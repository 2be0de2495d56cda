"""A network's kernels on a GPU, recorded once and replayed: for small windows, launching kernels takes the longest."""

import logging
import time
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from unetpipe.inference.sliding_window import Forward

log = logging.getLogger(__name__)

_TOLERANCE = 0.01  # of the largest logit
_TRIALS = 5
_REPAYS = 0.95  # of the network's time: a recording keeps the memory of its feature maps


class RecordedNetwork(nn.Module):
    """Maps (B, C, *patch) to logits (B, L, *patch) by CUDA graphs, one per number of windows.

    A number of windows is recorded when it comes for the second time, since a single call would not repay it. What is
    recorded is kept where it gives the network's logits and measures faster; else the network itself goes on computing.

    Args:
        network: Network on a GPU, in evaluation mode, whose weights no longer change.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network
        self._seen: set[int] = set()
        self._chosen: dict[int, Forward] = {}
        self._recordable = True

    def forward(self, windows: Tensor) -> Tensor:
        """Compute the logits; they are the caller's to keep."""
        count = len(windows)
        if count in self._chosen:
            return self._chosen[count](windows)
        logits: Tensor = self._network(windows)
        if count in self._seen:
            self._chosen[count] = self._faster(windows, logits)
        self._seen.add(count)
        return logits

    def _faster(self, windows: Tensor, logits: Tensor) -> Forward:
        """The recording, or the network itself."""
        if not self._recordable:
            return self._network
        try:
            recorded = _record(self._network, windows)
            difference = (recorded(windows) - logits).abs().max()
        except RuntimeError as error:  # memory ran out, or something in the network waits for the GPU
            self._recordable = False
            log.warning("windows are computed without CUDA graphs (%s while recording one)", type(error).__name__)
            return self._network
        same = bool(difference <= _TOLERANCE * logits.abs().max())
        faster = same and _seconds(recorded, windows) < _REPAYS * _seconds(self._network, windows)
        return recorded if faster else self._network


def _record(network: nn.Module, windows: Tensor) -> Forward:
    given = windows.clone()
    with torch.cuda.device(windows.device):
        graph = torch.cuda.CUDAGraph()
        # other threads load and write scans meanwhile
        with torch.cuda.graph(graph, pool=_pool(windows.device), capture_error_mode="thread_local"):
            logits: Tensor = network(given)

    def replay(windows: Tensor) -> Tensor:
        given.copy_(windows)
        graph.replay()
        return logits.clone()  # the next replay writes where it lies

    return replay


@cache
def _pool(_device: torch.device) -> Any:
    """A device's memory that all recordings share: they replay one after the other, and leave only logits there."""
    return torch.cuda.graph_pool_handle()


def _seconds(run: Forward, windows: Tensor) -> float:
    """The shortest of a few calls."""
    taken = []
    for _ in range(_TRIALS):
        torch.cuda.synchronize(windows.device)
        before = time.perf_counter()
        run(windows)
        torch.cuda.synchronize(windows.device)
        taken.append(time.perf_counter() - before)
    return min(taken)
