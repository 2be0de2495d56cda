"""The parts of a trainer that stay the same from the first step to the last: data, device, loss, augmentation."""

import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import psutil
import torch

from unetpipe.components import Definition
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.planning.plan import Configuration
from unetpipe.dataset.training_set import TrainingSet, read_training_set
from unetpipe.errors import TrainingError
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.steps import require_steps
from unetpipe.networks.device import compute_dtype
from unetpipe.training.batches.augmentation.augmentation import Augmentation
from unetpipe.training.batches.loader import PatchLoader
from unetpipe.training.distributed.group import Group
from unetpipe.training.first_stage import with_first_stage
from unetpipe.training.initial_model import InitialModel
from unetpipe.training.optimization.compilation import StepMeasurement
from unetpipe.training.optimization.learner import Learner
from unetpipe.training.optimization.loss import LossFunction
from unetpipe.training.optimization.recipe import Recipe, RecipeName
from unetpipe.training.optimization.start import StartingWeights
from unetpipe.training.parts import axes_to_mirror, chosen_augmentation, chosen_loss, chosen_network, try_parts
from unetpipe.training.run_identity import own_folder
from unetpipe.training.validation import HeldOut

_MEASURED_STEPS = 2
_MOST_THREADS = 8  # that read patches
_CACHE_SHARE = 0.25  # of free memory that the training set may fill


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The parts that stay the same during a run.

    Attributes:
        config: Options of the run.
        group: The processes that train together.
        data: Cases of the fold.
        axes: Axes of the cases that tell no classes apart.
        augmentation: Augmentation of each batch.
        initial: Model whose weights the run starts from; None starts from random ones.
        loss: Loss that is minimised.
        device: Device that computes.
        dtype: Data type of matrix products, where the hardware computes them correctly in it.
        started: `time.monotonic()` when the run's time began.
    """

    config: TrainConfig
    group: Group
    data: TrainingSet
    axes: tuple[int, ...]
    augmentation: Augmentation
    initial: InitialModel | None
    loss: LossFunction
    device: torch.device
    dtype: torch.dtype
    started: float

    @classmethod
    def of(
        cls, config: TrainConfig, group: Group, device: torch.device, initial: InitialModel | None = None
    ) -> "Setup":
        """Read what there is to learn from, and try the parts that the config names.

        Raises:
            UnetpipeError: If one of them cannot be used, or a batch is too small to be shared.
        """
        started = time.monotonic()
        data = read_training_set(config.work, config.fold, config.configuration)
        if config.first_stage is not None:
            if config.init is not None:
                raise TrainingError("--first-stage cannot be given with --init, whose network lacks its channels")
            data = with_first_stage(data, config.work, config.first_stage, group)
        _require_a_patch_each(data.configuration.batch_size, group)
        if initial is not None:
            initial.require_suits(data)
        if not data.preprocessing.only_normalizes:
            require_steps(data.preprocessing)  # the held-out cases go through them at the end
        loss = chosen_loss(config, data)
        try_parts(config, data, loss, initial)
        axes = axes_to_mirror(data)
        return cls(
            config=config,
            group=group,
            data=data,
            axes=axes,
            augmentation=chosen_augmentation(config, data, axes),
            initial=initial,
            loss=loss,
            device=device,
            dtype=compute_dtype(device, config.precision),
            started=started,
        )

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return own_folder(self.config)

    def held_out(self) -> HeldOut:
        """Open the cases that the fold holds out."""
        return HeldOut(self.data, self.device, self.dtype)

    def loader(self, batch_size: int) -> PatchLoader:
        """Open the training cases, for batches of so many patches on all ranks together.

        Raises:
            TrainingError: If there is not a patch for each rank.
        """
        _require_a_patch_each(batch_size, self.group)
        patch: Shape = self.data.configuration.patch_size
        return PatchLoader(
            store=self.data.store,
            first_stage=self.data.first_stage,
            ids=self.data.training,
            patch=patch,
            source=self.augmentation.source_shape(patch),
            batch_size=batch_size,
            foreground_share=self.config.foreground_share,
            places=tuple(self.group.share_of(batch_size)),
            seed=self.config.seed,
            cache=self.group.local_size * self.data.training_bytes < _CACHE_SHARE * psutil.virtual_memory().available,
            threads=max(2, min(_MOST_THREADS, self.group.cores // 2)),
            pinned=self.device.type == "cuda",
        )

    @cached_property
    def start(self) -> StartingWeights | None:
        """Weights that a network starts from; None where they are random."""
        if self.initial is None:
            return None
        return self.initial.start(self.data, rate=self.config.init_rate, frozen=self.config.freeze == "encoder")

    def following(self, name: str, configuration: Configuration) -> "Setup":
        """The same parts for a configuration of the plan, or a smaller version of it."""
        data, axes = self.data, self.axes
        if name != data.name:
            data = read_training_set(self.config.work, self.config.fold, name)
            axes = axes_to_mirror(data)
        data = replace(data, configuration=configuration)
        return replace(self, data=data, axes=axes, augmentation=chosen_augmentation(self.config, data, axes))

    def network(self) -> Definition:
        """The network that the config asks for, or that of the initial model.

        Raises:
            PlanError: If it cannot be built, or does not map the plan's patch to logits.
        """
        return chosen_network(self.config, self.data, self.initial)

    def learner(self, definition: Definition, name: RecipeName) -> Learner:
        """Make a network that has learned nothing of the data yet."""
        patch, recipe = self.data.configuration.patch_size, Recipe.of(self.config, name, self.loss)
        return Learner(definition, patch, recipe, self.device, self.dtype, self.config.seed, self.start)

    def measure_step(self, learner: Learner, batch_size: int, *, at_least_seconds: float = 0.0) -> StepMeasurement:
        """Let a learner take the first few optimiser steps of the run, after those that warm it and the loader up.

        Args:
            learner: The learner that is measured.
            batch_size: Patches per step.
            at_least_seconds: Time for steps, of which the second half is measured; two are measured at the least.
        """
        with closing(self.loader(batch_size).batches()) as batches:

            def steps(at_least: int) -> tuple[float, float]:
                before, elapsed, taken = time.monotonic(), 0.0, 0
                while taken < at_least or elapsed < at_least_seconds / 2:
                    loss, _rate = learner.step(next(batches), 0.0, self.augmentation)
                    taken += 1
                    elapsed, _ = self.group.agree(time.monotonic() - before, stop=False)  # all ranks take as many
                last = loss.item()  # waits for the device
                return (time.monotonic() - before) / taken, last

            steps(learner.steps_to_warm_up)
            seconds, loss = steps(_MEASURED_STEPS)
        return StepMeasurement(seconds=seconds, loss=loss)


def _require_a_patch_each(batch_size: int, group: Group) -> None:
    if batch_size < group.size:
        raise TrainingError(f"a batch of {batch_size} patches cannot be shared by {group.size} processes")
