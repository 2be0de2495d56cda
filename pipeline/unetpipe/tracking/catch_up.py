"""A run of MLflow that gets what it missed while its store did not answer, and nothing twice."""

from collections.abc import Mapping
from dataclasses import replace

from unetpipe.tracking.mlflow import MlflowTracker
from unetpipe.tracking.patience import patiently
from unetpipe.tracking.runs import close_run, find_run
from unetpipe.tracking.store import open_store
from unetpipe.tracking.tracker import Status, TrackedRun


class CatchUpTracker(MlflowTracker):
    """Adds to a run only what it does not have; a run that the store does not have is started.

    Attributes:
        added: Points that were added to curves.
    """

    def __init__(self, run: TrackedRun) -> None:
        """Open the run.

        Raises:
            Exception: Whatever MLflow raises when the store does not answer.
        """
        client, _ = open_store(run.work)
        is_there = run.run_id is not None and find_run(client, run.run_id) is not None
        super().__init__(replace(run, run_id=run.run_id if is_there else None, only_add=True))
        self.added = 0

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add those points that are not there, and count them."""
        missing = self.missing(values, step)
        super().metrics(missing, step)
        self.added += len(missing)

    def finish(self, status: Status) -> None:
        """Close a run that is open, or was not known to have finished; the time of another run's end stays."""
        current = patiently(lambda: self._client.get_run(self.run_id)).info.status
        if current == "RUNNING" or (status == "FINISHED" and current != status):
            close_run(self._client, self.run_id, status)
