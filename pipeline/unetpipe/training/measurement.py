"""What a smaller or larger plan costs on this device: a few steps of it, one case, one saved state."""

import math
import tempfile
import time
from dataclasses import dataclass, field

import torch

from unetpipe.errors import is_out_of_memory
from unetpipe.training.budget_choice import Cost, PlanVersion
from unetpipe.training.optimization.learner import Learner
from unetpipe.training.optimization.recipe import choose_recipe
from unetpipe.training.setup import Setup

_SHARE = 0.01  # of the budget, for the steps of a measurement
_SAVED = 2.0  # times the learner's state: the weights of the bundle, and the best ones, are saved besides
_DRAWING_SECONDS = 0.5  # for curves and configs, after each epoch


@dataclass
class Stopwatch:
    """Measures versions on all ranks, which wait for the slowest.

    Attributes:
        setup: Parts of the run.
        limit_seconds: Time limit of the run.
    """

    setup: Setup
    limit_seconds: float
    _reading: dict[str, float] = field(default_factory=dict)

    def measure(self, version: PlanVersion) -> Cost:
        """Let a network that has learned nothing take a few steps, predict windows and be saved, and read a case.

        Raises:
            PlanError: If the network cannot be built.
            TrainingError: If the middle one of the held-out cases cannot be read.
        """
        try:
            times = self._seconds(version)
        except Exception as error:
            if self.setup.group.size > 1 or not is_out_of_memory(error):  # other ranks may wait in the middle of a step
                raise
            times = [*[math.inf] * 4, time.monotonic() - self.setup.started]
        slowest = (max(values) for values in zip(*self.setup.group.gather(times), strict=True))
        step, window, reading, saving, elapsed = slowest
        return Cost(
            step_seconds=step,
            window_seconds=window,
            case_seconds=reading,
            ranks=self.setup.group.size,
            saving_seconds=saving,
            elapsed_seconds=elapsed,
        )

    def _seconds(self, version: PlanVersion) -> list[float]:
        """Of a step, a window, reading a case, and saving; and those that the run has taken so far."""
        setup = self.setup.following(version.name, version.configuration)
        learner = setup.learner(setup.network(), choose_recipe(0))
        batch, seconds = version.configuration.batch_size, _SHARE * self.limit_seconds
        step = setup.measure_step(learner, batch, at_least_seconds=seconds).seconds
        window = setup.held_out().window_seconds(learner.network)
        if version.name not in self._reading:
            self._reading[version.name] = setup.held_out().case_seconds()
        saving = _DRAWING_SECONDS + _SAVED * _saving_seconds(setup, learner)
        return [step, window, self._reading[version.name], saving, time.monotonic() - setup.started]


def _saving_seconds(setup: Setup, learner: Learner) -> float:
    before = time.monotonic()
    with tempfile.TemporaryFile(dir=setup.config.work) as file:
        torch.save(learner.state(), file)
    return time.monotonic() - before
