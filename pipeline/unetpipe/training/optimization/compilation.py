"""torch.compile for training, where it works and is measured to be faster."""

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from unetpipe.training.optimization.learner import Learner

log = logging.getLogger(__name__)

_SAME = 0.02  # of a loss, that half precision may change in a few steps


@dataclass(frozen=True)
class StepMeasurement:
    """A few optimiser steps.

    Attributes:
        seconds: Mean seconds of a step, warm-up left out.
        loss: Loss of the last one.
    """

    seconds: float
    loss: float


def compile_if_faster(learner: Learner, measure: Callable[[Learner], StepMeasurement]) -> None:
    """Take some steps with and without torch.compile, keep what was faster, and take the steps back.

    Args:
        learner: The learner that is measured.
        measure: Function that takes the same few steps whenever it is called.
    """
    state = copy.deepcopy(learner.state())
    plain = measure(learner)
    learner.load_state(copy.deepcopy(state))
    learner.compile()
    try:
        compiled = measure(learner)
    except Exception as error:  # whatever a compiler meets: none is installed, or an operator that it does not know
        learner.compile(False)
        log.info("going on without torch.compile, which failed (%s)", type(error).__name__)
    else:
        same = math.isclose(compiled.loss, plain.loss, rel_tol=_SAME)
        used = same and compiled.seconds < plain.seconds
        learner.compile(used)
        log.info(
            "torch.compile is %s: a step takes %.3f s with it and %.3f s without%s",
            "used" if used else "not used",
            compiled.seconds,
            plain.seconds,
            "" if same else f", but the loss is {compiled.loss:.4g} and not {plain.loss:.4g}",
        )
    learner.load_state(state)
