"""Make a network fit a time budget: a decision that depends on the device, so it is measured and not planned."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from unetpipe.errors import TrainingError

ENOUGH_ITERATIONS = 2000  # below this a narrower network learns more: docs/training.md
_NARROWEST = 16  # features of the first stage


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Attributes:
    features: Per stage.
    step_seconds: Of an optimiser step, sampling and augmentation included.
    seconds: Left for optimiser steps and a look at validation between epochs, counted from the start of the run.
    """

    features: tuple[int, ...]
    step_seconds: float
    seconds: float


def fit_to_time(
    features: tuple[int, ...],
    measure: Callable[[tuple[int, ...]], tuple[float, float]],
    *,
    limit_seconds: float,
    started: float,
) -> Fit:
    """Keep the plan's features as long as they get `ENOUGH_ITERATIONS`; else halve them until they do.

    Args:
        features: The plan's, per stage.
        measure: From features to seconds per optimiser step, and seconds for all that comes after the last step.
        limit_seconds: For the whole run.
        started: `time.monotonic()` when it began.

    Raises:
        TrainingError: If there is not time for a single step.
    """
    while True:
        step_seconds, ending_seconds = measure(features)
        seconds = limit_seconds - ending_seconds
        left = seconds - (time.monotonic() - started)
        if left >= ENOUGH_ITERATIONS * step_seconds or features[0] // 2 < _NARROWEST:
            break
        features = tuple(n // 2 for n in features)
    if left < step_seconds:
        raise TrainingError(
            f"{limit_seconds / 60:g} minutes are not enough: setting up takes {time.monotonic() - started:.0f} s, "
            f"a step {step_seconds:.1f} s, validating and saving {ending_seconds:.0f} s"
        )
    return Fit(features=features, step_seconds=step_seconds, seconds=seconds)
