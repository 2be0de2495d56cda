"""One epoch of learning, and what it cost."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unetpipe.errors import TrainingError
from unetpipe.progress import Advance
from unetpipe.training.batches.augmentation.augmentation import Augmentation
from unetpipe.training.batches.loader import Batch
from unetpipe.training.distributed import Group
from unetpipe.training.optimization.learner import Learner


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
    first: int,
    steps: int,
    progress: Callable[[int], float],
    group: Group,
    stop: threading.Event,
    advance: Advance,
) -> Epoch:
    """Take optimiser steps to the end of an epoch, or of training.

    Args:
        learner: Learns.
        batches: To learn from.
        augmentation: Of each batch.
        first: Steps taken before; in the middle of an epoch after an interruption.
        steps: Of a whole epoch.
        progress: From steps taken to how far training is; from 1 on it is over, but one step is always taken.
        group: Agrees on that with other processes.
        stop: Asks to stop; is set if another process was asked to.
        advance: Told after each step.

    Raises:
        TrainingError: If the loss is not a number, or a case cannot be read.
    """
    started = time.monotonic()
    losses: list[Tensor] = []
    rate, waited, over = 0.0, 0.0, False
    for taken in range(first, first - first % steps + steps):
        now, halt = group.agree(progress(taken), stop.is_set())
        if halt:
            stop.set()
        over = halt or (now >= 1 and taken > 0)
        if over:
            break
        asked = time.monotonic()
        batch = next(batches)
        waited += time.monotonic() - asked
        loss, rate = learner.step(batch, now, augmentation)
        losses.append(loss)
        advance()
    values = torch.stack(losses).tolist() if losses else []  # waits for the device, once
    if not all(map(math.isfinite, values)):
        raise TrainingError(f"the loss is not a number after {first + len(values)} steps: try --precision fp32")
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
