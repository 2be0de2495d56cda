"""Make steps fit a time budget: a decision that depends on the device, so it is measured and not planned."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from unetpipe.errors import TrainingError

ENOUGH_ITERATIONS = 1000  # below this smaller batches and a narrower network learn more: docs/training.md
SMALLEST_BATCH = 4
_NARROWEST = 16  # features of the first stage

Measure = Callable[[tuple[int, ...], int], tuple[float, float]]
"""From features and patches per batch to seconds per optimiser step, and seconds for all that comes after the last."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Attributes:
    features: Per stage.
    batch_size: Patches per step.
    step_seconds: Of an optimiser step, sampling and augmentation included.
    seconds: Left for optimiser steps and a look at validation between epochs, counted from the start of the run.
    """

    features: tuple[int, ...]
    batch_size: int
    step_seconds: float
    seconds: float


def calibrate(
    features: tuple[int, ...],
    batch_size: int,
    measure: Measure,
    *,
    limit_seconds: float,
    started: float,
    smallest_batch: int = SMALLEST_BATCH,
) -> Calibration:
    """Keep what is planned if it gets `ENOUGH_ITERATIONS`; else halve the batch, then the features, until it does.

    Args:
        features: The plan's, per stage.
        batch_size: The plan's.
        measure: What steps cost.
        limit_seconds: For the whole run.
        started: `time.monotonic()` when it began.
        smallest_batch: Not to be halved further.

    Raises:
        TrainingError: If there is not time for a single step.
    """
    while True:
        step_seconds, ending_seconds = measure(features, batch_size)
        seconds = limit_seconds - ending_seconds
        left = seconds - (time.monotonic() - started)
        if left >= ENOUGH_ITERATIONS * step_seconds:
            break
        if batch_size > smallest_batch:
            batch_size = max(batch_size // 2, smallest_batch)
        elif features[0] // 2 >= _NARROWEST:
            features = tuple(n // 2 for n in features)
        else:
            break
    if left < step_seconds:
        raise TrainingError(
            f"{limit_seconds / 60:g} minutes are not enough: setting up takes {time.monotonic() - started:.0f} s, "
            f"a step {step_seconds:.1f} s, validating and saving {ending_seconds:.0f} s"
        )
    return Calibration(features=features, batch_size=batch_size, step_seconds=step_seconds, seconds=seconds)
