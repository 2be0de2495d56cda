"""Ways to disturb a training."""

import os
import signal
from collections.abc import Callable

import pytest


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make SIGTERM reach this process while it learns from batches of these numbers, once each."""
    from unetpipe.training.batches.loader import Batch
    from unetpipe.training.optimization.learner import Learner

    step, waiting = Learner.step, set[int]()

    def stopping(self: Learner, batch: Batch, *args: object) -> object:
        if batch.number in waiting:
            waiting.remove(batch.number)
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "step", stopping)
    return lambda *numbers: waiting.update(numbers)
