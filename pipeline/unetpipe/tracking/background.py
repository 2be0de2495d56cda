"""A tracker that never breaks a run and never slows one: calls are queued, and a thread carries them out."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unetpipe.tracking.tracker import NullTracker, Status, TrackedRun, Tracker, TrackerFactory

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 60.0  # without an answer of the store, after which nothing waits for it any more


class BackgroundTracker:
    """Passes calls on to a tracker that lives in a thread.

    When the tracker fails, one line says so and the run goes on without it; the run's own files have the figures.
    """

    def __init__(
        self,
        factory: TrackerFactory,
        run: TrackedRun,
        parent: "OpenTracker | None" = None,
        known: Callable[[str], None] | None = None,
    ) -> None:
        """Start the thread, and make the tracker in it.

        Args:
            factory: Function that makes the tracker.
            run: Run that the tracker writes to.
            parent: Tracker of the run that this one is a part of.
            known: Called in the thread with the run's id as soon as the store has given it.
        """
        self._run_id = run.run_id
        self._broken = False
        self._answered = threading.Event()
        self._last_answer = time.monotonic()
        self._jobs: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        work = (factory, run, parent, known)
        self._thread = threading.Thread(target=self._work, args=work, name="tracking", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        """Id of the run; None while the store has not answered yet."""
        return self._run_id

    @property
    def complete(self) -> bool:
        """Whether the store has taken everything; to be asked when the run is finished."""
        return not (self._broken or self._thread.is_alive())

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Record what the run was asked to do."""
        self._jobs.put(lambda tracker: tracker.parameters(values))

    def tags(self, values: Mapping[str, str]) -> None:
        """Label the run."""
        self._jobs.put(lambda tracker: tracker.tags(values))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""
        self._jobs.put(lambda tracker: tracker.metrics(values, step))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file, which must not change until the run is finished, or it is kept as it is then."""
        self._jobs.put(lambda tracker: tracker.artifact(path, folder))

    def finish(self, status: Status) -> None:
        """Close the run. Waits for what is queued as long as the store goes on taking it, however slowly."""
        self._jobs.put(lambda tracker: tracker.finish(status))
        self._jobs.put(None)
        began = time.monotonic()
        while self._thread.is_alive():
            waited = time.monotonic() - max(began, self._last_answer)
            if waited >= _PATIENCE_SECONDS:
                log.warning("the tracking store did not take everything in time")
                return
            self._thread.join(_PATIENCE_SECONDS - waited)

    def wait_for_id(self) -> str | None:
        """Wait a limited time for the store to answer, and return the run's id if it has."""
        self._answered.wait(_PATIENCE_SECONDS)
        return self._run_id

    def _work(
        self,
        factory: TrackerFactory,
        run: TrackedRun,
        parent: "OpenTracker | None",
        known: Callable[[str], None] | None,
    ) -> None:
        try:
            if run.run_id is None and parent is not None:
                run = replace(run, parent_id=parent.wait_for_id())
            tracker = factory(run=run)
            self._run_id = tracker.run_id
            if known is not None and self._run_id:
                known(self._run_id)
            self._answered.set()
            while (job := self._jobs.get()) is not None:
                job(tracker)
                self._last_answer = time.monotonic()
        except Exception as error:  # whatever a store, its driver or the network throw
            self._broken = True
            log.warning("tracking stopped, the run goes on (%s)", type(error).__name__)
        finally:
            self._answered.set()


OpenTracker = BackgroundTracker | NullTracker
"""The trackers that a stage uses: neither raises, and neither makes the stage wait."""
