"""The state of a training run: all that a resume needs, and a record of every epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from unetpipe.components import Definition
from unetpipe.training.budget_choice import BudgetChoice
from unetpipe.training.epoch import Epoch
from unetpipe.training.outcome import TrainingOutcome
from unetpipe.training.run_identity import RunIdentity
from unetpipe.training.schedule import Budget, Cooldown

Weights = dict[str, Tensor]
"""State dict of a network, on the CPU."""


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch that is over.

    Attributes:
        epoch: Number of the epoch, from 0.
        iteration: Optimiser steps taken by its end, from the start of the run.
        loss: Mean loss over the epoch's steps.
        learning_rate: Learning rate of the epoch's last step.
        dice: Mean Dice of each foreground class over selection cases, on the network's grid; None where no case has
            the class.
        smoothed_dice: Moving average of the mean Dice over classes (see `early_stopping.smoothed_dice`).
        seconds: Seconds that the epoch's steps took.
        patches_per_second: Patches learned from, on all ranks together.
        data_wait: Share of the time that was spent waiting for a batch to be read.
        memory_gb: Peak memory in use so far, in GiB: the GPU's, or of the whole process.
        system: Utilisation of the machine, under MLflow's names.
    """

    epoch: int
    iteration: int
    loss: float
    learning_rate: float
    dice: tuple[float | None, ...]
    smoothed_dice: float
    seconds: float
    patches_per_second: float
    data_wait: float
    memory_gb: float
    system: Mapping[str, float]


@dataclass(kw_only=True)
class RunState:
    """A run between two of its steps. The trainer keeps it up to date, and a checkpoint holds it.

    Attributes:
        identity: Options and inputs that the run was started with.
        definition: MONAI definition of the network.
        budget: Length of training, in steps or seconds.
        choice: The plan that a budget in minutes leaves time for; None where the plan is followed as it is.
        iteration: Number of optimiser steps taken.
        seconds: Seconds that the run has taken, interruptions not counted.
        history: The epochs that are over.
        cut_epoch: The first part of an epoch that an interruption cut.
        cooldown: The early end of the schedule; None until one was decided on.
        best: Deployable weights of the epoch with the best smoothed Dice; None where the last ones are deployed.
        tracking_run: Id of the tracking run; None until its store has answered.
        learner: State for `Learner.load_state`; empty before the first step.
        outcome: Outcome of the run, set when it is finished.
    """

    identity: RunIdentity
    definition: Definition
    budget: Budget
    choice: BudgetChoice | None = None
    iteration: int = 0
    seconds: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    cut_epoch: Epoch | None = None
    cooldown: Cooldown | None = None
    best: Weights | None = None
    tracking_run: str | None = None
    learner: dict[str, Any] = field(default_factory=dict)
    outcome: TrainingOutcome | None = None
