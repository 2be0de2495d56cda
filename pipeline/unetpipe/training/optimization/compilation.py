"""torch.compile for training, where it works and is measured to be faster."""

import copy
import logging
from collections.abc import Callable

from unetpipe.training.optimization.learner import Learner

log = logging.getLogger(__name__)


def compile_if_faster(learner: Learner, measure: Callable[[Learner], float]) -> None:
    """Take some steps with and without torch.compile, keep what was faster, and take the steps back.

    Args:
        learner: The learner that is measured.
        measure: Function that takes a few steps with the network and returns the seconds of one, warm-up left out.
    """
    state = copy.deepcopy(learner.state())
    plain = measure(learner)
    learner.compile()
    try:
        compiled = measure(learner)
    except Exception as error:  # whatever a compiler meets: none is installed, or an operator that it does not know
        learner.compile(False)
        log.info("going on without torch.compile, which failed (%s)", type(error).__name__)
    else:
        learner.compile(compiled < plain)
        found = "used" if compiled < plain else "not used"
        log.info("torch.compile is %s: a step takes %.3f s with it and %.3f s without", found, compiled, plain)
    learner.load_state(state)
