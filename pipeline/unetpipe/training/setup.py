"""Before the first step: what to learn from, what network on what device, and for how long."""

import time
from dataclasses import dataclass

import psutil
import torch

from unetpipe.components import Definition
from unetpipe.config import TrainConfig
from unetpipe.cores import available_cores
from unetpipe.dataset.training_set import TrainingSet, read_training_set
from unetpipe.errors import TrainingError
from unetpipe.imaging.geometry import Shape
from unetpipe.networks.device import compute_dtype, resolve_device
from unetpipe.training.batches.augmentation.augmentation import Augmentation
from unetpipe.training.batches.loader import PatchLoader
from unetpipe.training.calibration import SMALLEST_BATCH, calibrate
from unetpipe.training.distributed import Ranks
from unetpipe.training.optimization.learner import Learner
from unetpipe.training.optimization.loss import LossFunction
from unetpipe.training.optimization.recipe import Recipe, RecipeName, choose_recipe
from unetpipe.training.parts import chosen_augmentation, chosen_loss, chosen_network, try_parts
from unetpipe.training.schedule import Budget
from unetpipe.training.validation import HeldOut

_MEASURED_STEPS = 3  # the first warms up
_SAVING_SECONDS = 5.0
_MOST_THREADS = 8  # that read patches
_CACHE_SHARE = 0.25  # of free memory that the training set may fill


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What stays the same from before the first step to after the last.

    Attributes:
        ranks: Who learns together.
        data: Cases of the fold.
        augmentation: Of each batch.
        loss: What is minimised.
        device: To learn on.
        dtype: Of matrix products, where that is sound.
    """

    config: TrainConfig
    ranks: Ranks
    data: TrainingSet
    augmentation: Augmentation
    loss: LossFunction
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, config: TrainConfig, ranks: Ranks) -> "Setup":
        """Read what there is to learn from, look for the device, and try the parts that the config names.

        Raises:
            UnetpipeError: If one of them cannot be used, or a batch is too small to be shared.
        """
        data = read_training_set(config.work, config.fold, config.configuration)
        device = ranks.device(resolve_device(config.device))
        if data.configuration.batch_size < ranks.size:
            batch = data.configuration.batch_size
            raise TrainingError(f"a batch of {batch} patches cannot be shared by {ranks.size} GPUs")
        loss = chosen_loss(config, data)
        try_parts(config, data, loss)
        return cls(
            config=config,
            ranks=ranks,
            data=data,
            augmentation=chosen_augmentation(config, data),
            loss=loss,
            device=device,
            dtype=compute_dtype(device, config.precision),
        )

    def held_out(self) -> HeldOut:
        """The cases that validate."""
        data = self.data
        return HeldOut(data.store, data.validation, data.manifest, data.configuration, self.device, self.dtype)

    def loader(self, batch_size: int) -> PatchLoader:
        """The batches to learn from, of so many patches."""
        patch: Shape = self.data.configuration.patch_size
        return PatchLoader(
            store=self.data.store,
            ids=self.data.training,
            patch=patch,
            source=self.augmentation.source_shape(patch),
            batch_size=batch_size,
            foreground_share=self.config.foreground_share,
            ranks=self.ranks,
            seed=self.config.seed,
            cache=self.ranks.size * self.data.training_bytes < _CACHE_SHARE * psutil.virtual_memory().available,
            threads=max(2, min(_MOST_THREADS, available_cores() // (2 * self.ranks.size))),
            pinned=self.device.type == "cuda",
        )

    def learner(self, definition: Definition, name: RecipeName) -> Learner:
        """A network that has learned nothing yet."""
        patch, recipe = self.data.configuration.patch_size, Recipe.of(self.config, name, self.loss)
        return Learner(definition, patch, recipe, self.device, self.dtype, self.config.seed)

    def decide(self, held_out: HeldOut, started: float) -> tuple[Definition, Budget]:
        """Choose network, batch and budget; for a limit in minutes by measuring what this device can do with it.

        Args:
            held_out: Predicted after the last step.
            started: `time.monotonic()` when the time began to run.
        """
        config, plan, calibration = self.config, self.data.configuration, None
        if config.max_minutes is not None:

            def measure(features: tuple[int, ...], batch_size: int) -> tuple[float, float]:
                learner = self.learner(chosen_network(config, self.data, features), choose_recipe(0))
                step_seconds = self.measure_step(learner, batch_size)
                ending = 1.5 * held_out.measure(learner.network) * len(self.data.validation)
                return step_seconds, _SAVING_SECONDS + ending

            calibration = calibrate(
                plan.features,
                plan.batch_size,
                measure,
                limit_seconds=config.max_minutes * 60,
                started=started,
                smallest_batch=max(SMALLEST_BATCH, self.ranks.size),
            )
        budget = Budget.plan(
            epochs=config.epochs, iterations=config.iterations, batch_size=plan.batch_size, calibration=calibration
        )
        features = calibration.features if calibration else plan.features
        return chosen_network(config, self.data, features), budget

    def measure_step(self, learner: Learner, batch_size: int) -> float:
        """Let it take a few optimiser steps; seconds of the shortest but for the first."""
        batches = self.loader(batch_size).batches()
        times = []
        for _ in range(_MEASURED_STEPS):
            before = time.monotonic()
            loss, _rate = learner.step(next(batches), 0.0, self.augmentation)
            loss.item()
            times.append(time.monotonic() - before)
        batches.close()
        return min(times[1:])
