"""A network that is trained: its weights, its optimiser, and one optimiser step."""

import copy
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unetpipe.components import Definition
from unetpipe.imaging.geometry import Shape
from unetpipe.networks.build import build_network, input_channels
from unetpipe.networks.deep_supervision import supervised
from unetpipe.networks.device import autocast
from unetpipe.networks.memory_format import use_fastest_layout
from unetpipe.networks.precision import trainable_dtype
from unetpipe.training.batches.augmentation.augmentation import Augmentation
from unetpipe.training.batches.draws import Draws
from unetpipe.training.batches.loader import Batch
from unetpipe.training.distributed.devices import data_parallel
from unetpipe.training.optimization.loss import deep_supervision_loss
from unetpipe.training.optimization.recipe import Recipe
from unetpipe.training.optimization.recording import WARM_UP, Recording, can_be_recorded
from unetpipe.training.optimization.start import StartingWeights, still

LearnerState = dict[str, Any]
"""Tensors and plain Python values."""


class Learner:
    """Takes optimiser steps; files, time and epochs are the trainer's.

    Attributes:
        network: The network that will be deployed. Its weights are a moving average of those that are optimised, which
            varies less than the weights after single steps.
        recipe: Loss, optimiser and schedule.
        device: Device of both networks.
        dtype: Type of matrix products.
    """

    def __init__(
        self,
        definition: Definition,
        patch: Shape,
        recipe: Recipe,
        device: torch.device,
        dtype: torch.dtype,
        seed: int,
        start: StartingWeights | None = None,
    ) -> None:
        """Initialise weights from `seed`, and those that there are from another model.

        Args:
            definition: Definition of the network.
            patch: Spatial shape of the network's input.
            recipe: Loss, optimiser and schedule.
            device: Device to compute on.
            dtype: Type that autocast uses where that is sound (see `trainable_dtype`); float32 means no autocast.
            seed: Seed of the initial weights and of augmentation.
            start: Weights of another model.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            learning = build_network(definition)
            if start is not None:
                start.load_into(learning)
            self.network = copy.deepcopy(learning)
            self._module = supervised(learning, definition)
        self.network.requires_grad_(False)
        self.device = device
        self.dtype = dtype = trainable_dtype(learning, input_channels(definition), patch, device, dtype)
        self._layout = use_fastest_layout(self._module.to(device), device, len(patch))
        self._eager: nn.Module = data_parallel(self._module, device)
        self._forward: Callable[[Tensor], Any] = self._eager
        use_fastest_layout(self.network.to(device), device, len(patch))
        self._learning, self._deployed = _floats(learning), _floats(self.network)
        self._patch, self.recipe, self._seed = patch, recipe, seed
        self._channels = input_channels(definition)
        self._start = start
        self._optimizer = recipe.optimizer(self._module.parameters())
        if start is not None:
            start.slow_down(self._optimizer, learning)
        self._peaks = [group["lr"] for group in self._optimizer.param_groups]
        self._scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self._definition = definition
        self._rates = [torch.tensor(peak, device=device) for peak in self._peaks]
        self._begin()

    def step(self, batch: Batch, progress: float, augmentation: Augmentation) -> tuple[Tensor, float]:
        """Augment a batch and take one optimiser step.

        Args:
            batch: A batch of the loader.
            progress: Share of the training that is over, from 0 to 1, which sets the learning rate.
            augmentation: Augmentation applied to the batch.

        Returns:
            The loss, a scalar on the device that is not waited for, and the learning rate of the first parameter group.
        """
        self._module.train()
        if self._start is not None:
            still(self._module.modules())
        draws = Draws(self._seed, batch.number, batch.places)
        factor = self.recipe.schedule(progress)
        self._set_rates(factor)
        image = batch.image.to(self.device, non_blocking=True).float()
        label = batch.label.to(self.device, non_blocking=True)
        first_stage = batch.first_stage
        if first_stage is not None:
            first_stage = first_stage.to(self.device, non_blocking=True)
        image, label = augmentation(image, label, self._patch, draws, first_stage, self._channels - image.shape[1] + 1)
        image = image.to(memory_format=self._layout)
        if self._recording:
            loss = self._recording.step(self._step, image, label)
        else:
            with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                torch.manual_seed(draws.seeds[0])  # for dropout: other ranks have other first places
                loss = self._step(image, label)
        self._average(batch.number, progress)
        return loss, self._peaks[0] * factor

    def _set_rates(self, factor: float) -> None:
        for group, peak, rate in zip(self._optimizer.param_groups, self._peaks, self._rates, strict=True):
            group["lr"] = rate.fill_(peak * factor) if self._recording else peak * factor

    def _step(self, image: Tensor, label: Tensor) -> Tensor:
        """Take one step of the optimiser against the loss of a batch, which is returned."""
        self._optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.dtype):
            out = self._forward(image)
        loss = deep_supervision_loss(out if isinstance(out, list) else [out], label, self.recipe.loss)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's stub
        self._scaler.unscale_(self._optimizer)
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self._module.parameters(), self.recipe.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()

    def _begin(self) -> None:
        """Forget a step that was recorded: its tensors, or its kernels, are others from now on."""
        recorded = (
            self.device.type == "cuda"
            and self._eager is self._module  # alone
            and not self._scaler.is_enabled()  # which looks at gradients in each step
            and not torch.are_deterministic_algorithms_enabled()  # where cuBLAS has one workspace, and a graph its own
            and can_be_recorded(self._module, self._definition, self.recipe.loss, self._optimizer)
        )
        self._recording = Recording(self.device) if recorded else None

    @property
    def steps_to_warm_up(self) -> int:
        """Number of first steps that take longer: on a GPU one of them is recorded, whole or by torch.compile."""
        return WARM_UP + 1 if self.device.type == "cuda" else 1

    def compile(self, wanted: bool = True) -> None:
        """Use torch.compile from the next step on, or no longer. That step compiles, or raises the compiler's error.

        Where steps are not recorded as a whole, the compiled kernels of a pass are.
        """
        mode = None if self._recording else "reduce-overhead"
        self._forward = torch.compile(self._module, dynamic=False, mode=mode) if wanted else self._eager
        self._begin()

    def free_memory(self) -> None:
        """Let go of what a step needs besides weights; the next one takes it anew, and is recorded anew."""
        self._optimizer.zero_grad(set_to_none=True)  # gradients lie in the memory of a recorded step
        self._begin()

    def _average(self, step: int, progress: float) -> None:
        """Update the deployed weights: the mean of the optimised weights over all steps, later over the last ones.

        The memory of the mean is a share of the run, as the learning rate is a function of progress.

        Source:
            Tarvainen and Valpola 2017, NeurIPS, on averages of weights.
        """
        share = 1 / (1 + step * min(1.0, self.recipe.ema / max(progress, 1e-6)))
        torch._foreach_lerp_(self._deployed, self._learning, share)

    def share_statistics(self) -> None:
        """Take rank 0's running statistics of batch norm, which are saved: each rank has those of its own patches."""
        if dist.is_initialized():
            for statistics in self.network.buffers():
                dist.broadcast(statistics, src=0)

    def weights(self) -> dict[str, Tensor]:
        """State dict of the deployed network, on the CPU. A tensor with two names, as in a DynUNet, is saved once."""
        copies: dict[int, Tensor] = {}
        return {
            name: copies.setdefault(tensor.data_ptr(), tensor.detach().cpu().clone())
            for name, tensor in self.network.state_dict().items()
        }

    def state(self) -> LearnerState:
        """Return everything that `load_state` needs to continue exactly."""
        return {
            "module": self._module.state_dict(),
            "average": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state(self, state: LearnerState) -> None:
        """Continue from `state`."""
        self._module.load_state_dict(state["module"])
        self.network.load_state_dict(state["average"])
        fused = [group.get("fused") for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(self._optimizer.param_groups, fused, strict=True):
            if "fused" in group:
                group["fused"] = own  # as suits this device, and not the one that the state is from
        if state["scaler"]:  # empty where the run has not computed in float16, as on another kind of GPU
            self._scaler.load_state_dict(state["scaler"])
        self._begin()


def _floats(network: nn.Module) -> list[Tensor]:
    """Weights and running statistics of a network, not copied."""
    return [x.detach() for x in chain(network.parameters(), network.buffers()) if x.is_floating_point()]
