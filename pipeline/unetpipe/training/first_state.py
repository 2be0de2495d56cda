"""The state of a run before its first step: which network, with what batches, for how long."""

import math
import time

from unetpipe.training.calibration import SMALLEST_BATCH, Calibration, Measurement, calibrate
from unetpipe.training.optimization.recipe import choose_recipe
from unetpipe.training.run_identity import RunIdentity
from unetpipe.training.schedule import Budget
from unetpipe.training.setup import Setup
from unetpipe.training.state import RunState

_SAVING_SECONDS = 5.0
_SLOWER = 1.25  # than estimated, that predicting the held-out cases may be


def first_state(setup: Setup, identity: RunIdentity) -> RunState:
    """Follow config and plan; with a limit in minutes, measure what this device can do with it.

    Raises:
        TrainingError: If there is not time for a single step.
    """
    config, plan = setup.config, setup.data.configuration
    calibration = _calibration(setup) if config.max_minutes is not None else None
    return RunState(
        identity=identity,
        definition=setup.network(calibration.features if calibration else plan.features),
        budget=Budget.plan(
            epochs=config.epochs, iterations=config.iterations, batch_size=plan.batch_size, calibration=calibration
        ),
    )


def _calibration(setup: Setup) -> Calibration:
    config, plan, group, held_out = setup.config, setup.data.configuration, setup.group, setup.held_out()

    predicting: dict[tuple[int, ...], float] = {}

    def measure(features: tuple[int, ...], batch_size: int) -> Measurement:
        learner = setup.learner(setup.network(features), choose_recipe(0))
        step = setup.measure_step(learner, batch_size).seconds
        if features not in predicting:
            predicting[features] = held_out.estimate_seconds(learner.network) / group.size
        ending = _SAVING_SECONDS + _SLOWER * predicting[features]
        of_ranks = group.gather([step, ending, time.monotonic() - setup.started])
        step, ending, elapsed = (max(values) for values in zip(*of_ranks, strict=True))  # all wait for the slowest
        return Measurement(step_seconds=step, ending_seconds=ending, elapsed_seconds=elapsed)

    return calibrate(
        plan.features,
        plan.batch_size,
        measure,
        limit_seconds=60 * (config.max_minutes or math.inf),
        smallest_batch=max(SMALLEST_BATCH, group.size),
        may_narrow=setup.initial is None,
    )
