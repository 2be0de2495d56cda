"""The protocol by which a trainer reports: files, pictures and tracking are written behind it."""

from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from unetpipe.imaging.geometry import Spacing
from unetpipe.training.outcome import HeldOutResult
from unetpipe.training.state import RunState, Weights


class Example(NamedTuple):
    """One held-out case on the network's grid.

    Attributes:
        image: First channel (*spatial).
        prediction, reference: Class indices (*spatial).
        spacing_mm: Voxel size.
        is_ras: Whether axes run to the patient's right, to the front and upwards.
    """

    image: NDArray[np.float32]
    prediction: NDArray[np.integer]
    reference: NDArray[np.integer]
    spacing_mm: Spacing
    is_ras: bool


class RunRecorder(Protocol):
    """Is called by a `Trainer` on rank 0; other ranks call one that does nothing."""

    def epoch_finished(self, state: RunState, weights: Weights) -> None:
        """Record the last epoch of the history, and renew what is deployed."""

    def keep_weights(self, name: Literal["best", "last"], weights: Weights) -> None:
        """Keep weights besides those that are deployed."""

    def save(self, state: RunState) -> None:
        """Save a checkpoint, from which a run can resume."""

    def held_out_cases_predicted(
        self, state: RunState, weights: Weights, result: HeldOutResult, example: Example
    ) -> None:
        """Record the result of the deployed weights on held-out cases."""


class NullRecorder:
    """A recorder that writes nothing."""

    def epoch_finished(self, state: RunState, weights: Weights) -> None: ...

    def keep_weights(self, name: Literal["best", "last"], weights: Weights) -> None: ...

    def save(self, state: RunState) -> None: ...

    def held_out_cases_predicted(
        self, state: RunState, weights: Weights, result: HeldOutResult, example: Example
    ) -> None: ...
