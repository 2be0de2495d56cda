"""The choice of loss, optimiser and schedule: as the config says, and else as suits the length of the run."""

from dataclasses import dataclass
from typing import Literal

from unetpipe.components import Definition, target_of
from unetpipe.config.train import TrainConfig
from unetpipe.training.optimization.loss import LossFunction
from unetpipe.training.optimization.optimizers import OptimizerFactory, optimizer_factory
from unetpipe.training.optimization.schedules import Schedule, make_schedule

RecipeName = Literal["sgd", "muon"]

LONG_RUN = 50_000  # iterations from which the published SGD recipe is used


def choose_recipe(iterations: int) -> RecipeName:
    """Pick SGD with Nesterov momentum and polynomial decay for long runs, Muon with one cycle for short ones."""
    return "sgd" if iterations >= LONG_RUN else "muon"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The loss, optimiser and schedule of a `Learner`.

    Attributes:
        loss: Loss that is minimised.
        optimizer_name: Registered name or class of the optimiser.
        optimizer: Function that builds the optimiser, at its peak learning rate.
        named_schedule: Registered name or definition of the schedule.
        schedule: Factor of the learning rate, from progress.
        clip: Largest norm of the gradient in a step; 0 leaves every gradient as it is.
        ema: Memory of the average of weights that is deployed, as a share of the whole run.
    """

    loss: LossFunction
    optimizer_name: str
    optimizer: OptimizerFactory
    named_schedule: str | Definition
    schedule: Schedule
    clip: float
    ema: float

    @classmethod
    def of(cls, config: TrainConfig, name: RecipeName, loss: LossFunction) -> "Recipe":
        """Follow the config, and `name` where it leaves the optimiser open.

        Raises:
            ComponentError: If there is no such optimiser or schedule, or the schedule is none.
        """
        optimizer: str | Definition = config.optimizer or name
        schedule = config.schedule or ("poly" if target_of(optimizer) == "sgd" else "one_cycle")
        return cls(
            loss=loss,
            optimizer_name=str(target_of(optimizer)).rsplit(".", 1)[-1],
            optimizer=optimizer_factory(optimizer, config.learning_rate, config.weight_decay),
            named_schedule=schedule,
            schedule=make_schedule(schedule),
            clip=config.clip,
            ema=config.ema,
        )
