"""torch.compile for training, where it works and measures faster."""

import copy
from collections.abc import Callable

from unetpipe.training.optimization.learner import Learner


def compile_if_faster(learner: Learner, measure: Callable[[Learner], float], say: Callable[[str], None]) -> None:
    """Take some steps with and without torch.compile, and go on with what was faster, from where the learner was.

    Args:
        learner: What learns.
        measure: Takes a few steps and returns the seconds of one, the first ones left out.
        say: Told what was found.
    """
    state = copy.deepcopy(learner.state())
    plain = measure(learner)
    learner.compile()
    try:
        compiled = measure(learner)
    except Exception as error:  # whatever a compiler meets: none is installed, or an operator that it does not know
        learner.compile(False)
        say(f"going on without torch.compile, which failed ({type(error).__name__})")
    else:
        learner.compile(compiled < plain)
        found = "used" if compiled < plain else "not used"
        say(f"torch.compile is {found}: a step takes {compiled:.3f} s with it and {plain:.3f} s without")
    learner.load_state(state)
