"""A network on its device, its optimiser, and one step of learning."""

import numpy as np
import torch
from torch import Tensor, nn

from unetpipe.imaging.geometry import Shape
from unetpipe.model.augment import Augmentation, augment
from unetpipe.model.checkpoint import State
from unetpipe.model.device import autocast
from unetpipe.model.loader import Batch
from unetpipe.model.loss import deep_supervision_loss
from unetpipe.model.network import DeepSupervision, Definition, build_network
from unetpipe.model.optim import Recipe, learning_rate, make_optimizer
from unetpipe.model.precision import trainable_dtype

_CLIP = 12.0  # gradient norm, as nnU-Net


class Learner:
    """Learns from batches; knows nothing of files, time or epochs.

    Attributes:
        network: What will be deployed.
        device: Where it lies.
        dtype: Of matrix products.
    """

    def __init__(
        self, definition: Definition, patch: Shape, recipe: Recipe, device: torch.device, dtype: torch.dtype, seed: int
    ) -> None:
        """Initialise weights from `seed`.

        Args:
            definition: MONAI config of the network. A DynUNet learns under deep supervision.
            patch: What the network sees.
            recipe: Optimiser and schedule.
            device: Where to compute.
            dtype: Autocast to this where that is sound (see `trainable_dtype`); float32 means no autocast.
            seed: Of the weights and of augmentation.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = build_network(definition)
            deep = str(definition["_target_"]).endswith(".DynUNet")
            self._module: nn.Module = DeepSupervision(self.network) if deep else self.network
        self.device = device
        self.dtype = dtype = trainable_dtype(self.network, definition["in_channels"], patch, device, dtype)
        self._layout = _fastest_layout(device, len(patch))
        self._module.to(device).to(memory_format=self._layout)  # type: ignore[call-overload]  # torch's stub
        self._patch, self._recipe, self._seed = patch, recipe, seed
        self._optimizer = make_optimizer(recipe, self._module)
        self._scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def step(self, batch: Batch, progress: float, settings: Augmentation) -> tuple[Tensor, float]:
        """Augment a batch and take one optimiser step.

        Args:
            batch: From the loader.
            progress: How far training is, from 0 to 1: sets the learning rate.
            settings: Augmentation.

        Returns:
            The loss (a scalar on the device, not waited for) and the learning rate.
        """
        self._module.train()
        generator = torch.Generator().manual_seed(_seed_of(self._seed, batch.number))
        rate = learning_rate(self._recipe, progress)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        image = batch.image.to(self.device, non_blocking=True)
        label = batch.label.to(self.device, non_blocking=True)
        image, label = augment(image, label, self._patch, settings, generator)
        image = image.to(memory_format=self._layout)
        self._optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.dtype):
            out = self._module(image)
        loss = deep_supervision_loss(out if isinstance(out, list) else [out], label)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's stub
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._module.parameters(), _CLIP)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach(), rate

    def weights(self) -> dict[str, Tensor]:
        """State dict of the deployed network."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}

    def state(self) -> State:
        """All that `load_state` needs to go on exactly."""
        return {
            "module": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state(self, state: State) -> None:
        """Go on from `state`."""
        self._module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _fastest_layout(device: torch.device, dims: int) -> torch.memory_format:
    """Tensor cores want channels last; oneDNN reorders by itself."""
    if device.type != "cuda":
        return torch.contiguous_format
    return torch.channels_last_3d if dims == 3 else torch.channels_last
