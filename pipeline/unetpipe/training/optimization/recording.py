"""Optimiser steps as a CUDA graph: a GPU computes a small network faster than Python launches its kernels.

A graph repeats the kernels of one step with the numbers that are then in its tensors. Whatever Python decides in a step
would stay as it was when the step was recorded, so that only parts that decide nothing may be in it.
"""

import logging
from collections.abc import Callable

import torch
from monai.networks.layers.drop_path import DropPath
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from unetpipe.components import Definition
from unetpipe.networks.build import is_monai_alone
from unetpipe.training.optimization.loss import Loss, LossFunction
from unetpipe.training.optimization.muon import Muon

log = logging.getLogger(__name__)

Update = Callable[[Tensor, Tensor], Tensor]
"""Maps an image (B, C, ...) and a label (B, ...) to the loss, after a step of the optimiser against it."""

WARM_UP = 3  # steps before one is recorded, in which libraries choose algorithms and optimisers make their state


def can_be_recorded(
    network: nn.Module, definition: Definition, loss: LossFunction, optimizer: torch.optim.Optimizer
) -> bool:
    """Whether a step with these parts is the same kernels each time: networks of MONAI's, and the package's own parts.

    Networks with dropout draw other numbers in each step. The learning rate of such an optimiser may be a tensor.
    """
    fused = isinstance(optimizer, torch.optim.SGD) and all(group["fused"] for group in optimizer.param_groups)
    decides_nothing = is_monai_alone(definition) and not any(map(_drops, network.modules()))
    return decides_nothing and isinstance(loss, Loss) and (isinstance(optimizer, Muon) or fused)


def _drops(layer: nn.Module) -> bool:
    return (isinstance(layer, _DropoutNd) and layer.p > 0) or (isinstance(layer, DropPath) and layer.drop_prob > 0)


class Recording:
    """Runs an update as it is for the first few batches, and as a CUDA graph from then on.

    Every call is a step. Where the update cannot be recorded, a line says so, and it is run as it is.
    """

    def __init__(self, device: torch.device) -> None:
        """Prepare for batches of one shape on a GPU."""
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's stub
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def step(self, update: Update, image: Tensor, label: Tensor) -> Tensor:
        """Take a step.

        Args:
            update: The same function each time, whose tensors other than its arguments stay where they are. It is not
                kept: the networks that it holds are to go when their learner does.
            image: Image (B, C, ...).
            label: Label (B, ...).

        Returns:
            The loss.
        """
        self._calls += 1
        with torch.cuda.device(self._device):
            if self._calls <= WARM_UP:
                return self._warm_up(update, image, label)
            if self._calls == WARM_UP + 1:
                self._graph = self._record(update, image, label)
            if self._graph is None:
                return update(image, label)
            self._image.copy_(image)
            self._label.copy_(label)
            self._graph.replay()
            return self._loss.clone()

    def _warm_up(self, update: Update, image: Tensor, label: Tensor) -> Tensor:
        """Take a step on the stream that records later: what autograd keeps of a stream must not be another's."""
        now = torch.cuda.current_stream()
        self._stream.wait_stream(now)
        with torch.cuda.stream(self._stream):
            loss = update(image, label)
        now.wait_stream(self._stream)
        return loss

    def _record(self, update: Update, image: Tensor, label: Tensor) -> torch.cuda.CUDAGraph | None:
        """Record a step without taking it; threads that read patches meanwhile are let be."""
        self._image, self._label = image.clone(), label.clone()
        graph, now = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._loss = update(self._image, self._label)
        except RuntimeError as error:  # of CUDA: an operator that waits, or too little memory
            torch.cuda.set_stream(now)  # where torch leaves the other one, as after an operator that waits
            log.info("going on without a CUDA graph, which could not be recorded (%s)", type(error).__name__)
            return None
        return graph
