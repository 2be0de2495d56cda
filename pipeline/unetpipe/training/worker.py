"""A rank that only learns: what it does is decided by rank 0, which looks, saves and tells."""

import json
from contextlib import closing

from unetpipe.errors import TrainingError
from unetpipe.progress import SilentProgress
from unetpipe.training.checkpoint import State
from unetpipe.training.distributed import Group
from unetpipe.training.epoch import learn_epoch
from unetpipe.training.schedule import Budget
from unetpipe.training.setup import Setup
from unetpipe.training.signals import stop_requested


def order_to_follow(state: State) -> str:
    """What the others must know of rank 0's state before the first step."""
    return json.dumps({key: state[key] for key in ("definition", "budget", "iteration")})


def follow(setup: Setup, group: Group, state: State | None) -> None:
    """Learn along with rank 0 until it says that training is over.

    Args:
        setup: Of this rank.
        group: All ranks.
        state: From the run's last checkpoint, if it has one.

    Raises:
        KeyboardInterrupt: If any rank was asked to stop.
        TrainingError: If another rank has died, or goes on from another checkpoint.
    """
    order = json.loads(group.share())
    budget, iteration = Budget(**order["budget"]), order["iteration"]
    if iteration != (state["iteration"] if state else 0):
        raise TrainingError("the processes of this training read different checkpoints: run the same command again")
    learner = setup.learner(order["definition"], budget.recipe)
    if state:
        learner.load_state(state["learner"])
    over = False
    with (
        stop_requested() as stop,
        closing(setup.loader(budget.batch_size).batches(first=iteration)) as batches,
        SilentProgress().task("", 0) as advance,
    ):
        while not over:
            epoch = learn_epoch(
                learner,
                batches,
                setup.augmentation,
                first=iteration,
                steps=budget.iterations,
                progress=lambda _: 0.0,  # rank 0 knows
                group=group,
                stop=stop,
                advance=advance,
            )
            iteration, over = iteration + len(epoch.losses), epoch.over
        if stop.is_set():
            raise KeyboardInterrupt
