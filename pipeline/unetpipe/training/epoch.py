"""The steps of an epoch, and what they cost."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Optimiser steps of one epoch: all of them, or those before or after an interruption.

    Attributes:
        losses: Losses of each step.
        learning_rate: Learning rate of the last step.
        seconds: Seconds that the steps took.
        waited: Seconds of them that were spent waiting for a batch to be read.
    """

    losses: tuple[float, ...]
    learning_rate: float
    seconds: float
    waited: float

    def preceded_by(self, earlier: "Epoch | None") -> "Epoch":
        """The epoch whose first part, if there is one, came before an interruption."""
        if earlier is None:
            return self
        return replace(
            self,
            losses=(*earlier.losses, *self.losses),
            learning_rate=self.learning_rate if self.losses else earlier.learning_rate,
            seconds=earlier.seconds + self.seconds,
            waited=earlier.waited + self.waited,
        )
