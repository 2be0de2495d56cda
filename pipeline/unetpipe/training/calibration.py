"""Fit batch and network to a time budget: it depends on the device, so that it is measured and not planned."""

from collections.abc import Callable
from dataclasses import dataclass

from unetpipe.errors import TrainingError

ENOUGH_ITERATIONS = 1000  # below this smaller batches and a narrower network learn more: docs/training.md
SMALLEST_BATCH = 4
_NARROWEST = 16  # features of the first stage


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The measured times of one width and batch size.

    Attributes:
        step_seconds: Seconds of an optimiser step, sampling and augmentation included.
        ending_seconds: Seconds that all work after the last step takes.
        elapsed_seconds: Seconds from the start of the run to the end of this measurement.
    """

    step_seconds: float
    ending_seconds: float
    elapsed_seconds: float


Measure = Callable[[tuple[int, ...], int], Measurement]
"""Measures the times of a network with the given features per stage and patches per batch."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The network, batch size and steps that fit into a time budget on this device.

    Attributes:
        features: Channels per stage of the network.
        batch_size: Patches per step.
        step_seconds: Seconds of an optimiser step, sampling and augmentation included.
        seconds: Seconds for optimiser steps and the validations between them, counted from the start of the run.
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
    smallest_batch: int = SMALLEST_BATCH,
    may_narrow: bool = True,
) -> Calibration:
    """Keep what is planned if it gets `ENOUGH_ITERATIONS`; else halve the batch, then the features, until it does.

    Args:
        features: Channels per stage in the plan.
        batch_size: Patches per step in the plan.
        measure: Measures the times of a width and batch size.
        limit_seconds: Time limit of the whole run, in seconds.
        smallest_batch: Batch size that is not halved further.
        may_narrow: Halve the features too; not where the weights of a network are given.

    Raises:
        TrainingError: If there is not time for a single step.
    """
    while True:
        measured = measure(features, batch_size)
        seconds = limit_seconds - measured.ending_seconds
        left = seconds - measured.elapsed_seconds
        if left >= ENOUGH_ITERATIONS * measured.step_seconds:
            break
        if batch_size > smallest_batch:
            batch_size = max(batch_size // 2, smallest_batch)
        elif may_narrow and features[0] // 2 >= _NARROWEST:
            features = tuple(n // 2 for n in features)
        else:
            break
    if left < measured.step_seconds:
        raise TrainingError(
            f"{limit_seconds / 60:g} minutes are not enough: setting up takes {measured.elapsed_seconds:.0f} s, "
            f"a step {measured.step_seconds:.1f} s, validating and saving {measured.ending_seconds:.0f} s"
        )
    return Calibration(features=features, batch_size=batch_size, step_seconds=measured.step_seconds, seconds=seconds)
