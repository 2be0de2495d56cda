"""One epoch of learning, and what it cost."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unetpipe.errors import TrainingError
from unetpipe.model.augment import Augmentation
from unetpipe.model.learner import Learner
from unetpipe.model.loader import Batch
from unetpipe.progress import Advance

Clock = Callable[[int], tuple[float, bool]]
"""From the epoch's steps so far to how far training is, from 0 to 1, and whether it is over."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Attributes:
    losses: Of each step; fewer than were asked for if training is over.
    learning_rate: Of the last step.
    seconds: For all of it.
    waited: Seconds of them spent waiting for a batch to be read.
    over: No further epoch is to come.
    """

    losses: tuple[float, ...]
    learning_rate: float
    seconds: float
    waited: float
    over: bool


def learn_epoch(
    learner: Learner,
    batches: Iterator[Batch],
    augmentation: Augmentation,
    *,
    steps: int,
    clock: Clock,
    advance: Advance,
) -> Epoch:
    """Take up to `steps` optimiser steps.

    Args:
        learner: Learns.
        batches: To learn from.
        augmentation: Of each batch.
        steps: That are left of the epoch.
        clock: Asked before each step.
        advance: Told after each step.

    Raises:
        TrainingError: If the loss is not a number, or a case cannot be read.
    """
    started = time.monotonic()
    losses: list[Tensor] = []
    rate, waited, over, number = 0.0, 0.0, False, 0
    while len(losses) < steps:
        progress, over = clock(len(losses))
        if over:
            break
        asked = time.monotonic()
        batch = next(batches)
        waited += time.monotonic() - asked
        loss, rate = learner.step(batch, progress, augmentation)
        losses.append(loss)
        number = batch.number + 1
        advance()
    values = torch.stack(losses).tolist() if losses else []  # waits for the device, once
    if not all(map(math.isfinite, values)):
        raise TrainingError(f"the loss is not a number after {number} steps: try --precision fp32")
    seconds = time.monotonic() - started
    return Epoch(losses=tuple(values), learning_rate=rate, seconds=seconds, waited=waited, over=over)


def joined(earlier: Mapping[str, Any] | None, later: Epoch) -> Epoch:
    """An epoch whose first part, as `asdict` has it, came before an interruption."""
    if earlier is None:
        return later
    return replace(
        later,
        losses=(*earlier["losses"], *later.losses),
        learning_rate=later.learning_rate if later.losses else earlier["learning_rate"],
        seconds=earlier["seconds"] + later.seconds,
        waited=earlier["waited"] + later.waited,
    )
