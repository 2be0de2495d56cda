"""The length of training: a number of iterations, of seconds, or both, whichever ends first; and its steps."""

import math
from dataclasses import dataclass

from unetpipe.training.budget_choice import BudgetChoice
from unetpipe.training.optimization.recipe import RecipeName, choose_recipe

PUBLISHED_EPOCHS = 1000
_COOLDOWN = 10  # of the steps taken, one in so many is added to end on a low learning rate
_LONG_MINUTES, _LONG_STEPS = 20, 5000  # from which it pays to wait a few minutes for a faster step


@dataclass(frozen=True, kw_only=True)
class Cooldown:
    """An early end: what is left of the schedule, run through in few steps.

    Stopping in the middle of a schedule would leave the weights of a high learning rate. A short decay is enough to
    bring them in (Hägele et al. 2024, NeurIPS: 10 to 20 % of the steps).

    Attributes:
        iteration: Optimiser step at which it begins.
        progress: Progress of the schedule at that step.
        steps: Number of optimiser steps that it takes.
    """

    iteration: int
    progress: float
    steps: int

    @classmethod
    def begin(cls, iteration: int, progress: float, epoch: int) -> "Cooldown":
        """Land after `iteration` steps: in a tenth as many, an epoch's at least."""
        return cls(iteration=iteration, progress=progress, steps=max(epoch, iteration // _COOLDOWN))

    def at(self, iteration: int) -> float:
        """Progress of the schedule."""
        return self.progress + (1 - self.progress) * (iteration - self.iteration) / self.steps


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The length of a run, and what its steps consist of.

    Attributes:
        epochs: Number of epochs after which training ends, unless the limit in seconds ends it earlier.
        iterations: Optimiser steps per epoch.
        batch_size: Patches per iteration.
        seconds: Seconds for everything up to the last optimiser step; None is no limit.
        recipe: Optimiser and schedule for a run of this length.
    """

    epochs: int
    iterations: int
    batch_size: int
    seconds: float | None
    recipe: RecipeName

    @classmethod
    def plan(cls, *, epochs: int | None, iterations: int, batch_size: int, choice: BudgetChoice | None) -> "Budget":
        """Decide from what was asked for or planned and, for a limit in time, from what was chosen for it."""
        if choice is None:
            total = epochs or PUBLISHED_EPOCHS
            recipe = choose_recipe(total * iterations)
            return cls(epochs=total, iterations=iterations, batch_size=batch_size, seconds=None, recipe=recipe)
        if epochs is None:
            iterations = choice.iterations
            epochs = 10 * math.ceil(choice.steps / iterations)  # the clock decides, not this
        return cls(
            epochs=epochs,
            iterations=iterations,
            batch_size=choice.configuration.batch_size,
            seconds=choice.seconds,
            recipe=choose_recipe(min(choice.steps, epochs * iterations)),
        )

    def progress(self, iteration: int, seconds: float, cooldown: Cooldown | None = None) -> float:
        """Fraction that is over after `iteration` steps and `seconds`; 1 or more means stop."""
        done = iteration / (self.epochs * self.iterations)
        if cooldown is not None:
            done = max(done, cooldown.at(iteration))
        return done if self.seconds is None else max(done, seconds / self.seconds)

    def repays_preparation(self, iteration: int, seconds: float) -> bool:
        """Whether, after `iteration` steps and `seconds`, so much is left that minutes spent on faster steps pay."""
        if self.seconds is not None:
            return self.seconds - seconds >= 60 * _LONG_MINUTES
        return self.epochs * self.iterations - iteration >= _LONG_STEPS
