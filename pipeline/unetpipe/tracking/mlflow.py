"""MLflow as a tracker. What goes in is chosen by the caller: no path, no patient, no user name."""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetpipe.tracking.patience import patiently
from unetpipe.tracking.runs import close_run, start_run
from unetpipe.tracking.store import open_store
from unetpipe.tracking.tracker import Status, TrackedDataset, TrackedRun

_BATCH = 1000  # metrics that MLflow takes in one call
_LONGEST_KEY = 250


class MlflowTracker:
    """A run of MLflow, in the store of the environment or of the work folder.

    A store that does not answer when the run is opened is given up soon. Later it has time to be slow or to restart.

    Attributes:
        run_id: MLflow's id of the run.
    """

    run_id: str

    def __init__(self, run: TrackedRun) -> None:
        """Start or continue a run.

        Raises:
            Exception: Whatever MLflow raises when the store does not answer or has no such run.
        """
        self._client, experiment = open_store(run.work)
        self._continues = run.run_id is not None and not run.only_add
        self._steps: dict[str, set[int]] = {}
        self._only_add = run.only_add and run.run_id is not None
        if run.run_id is None:
            self.run_id = start_run(self._client, experiment, run.name, run.parent_id)
        else:
            self.run_id = run.run_id
            if self._only_add:
                patiently(lambda: self._client.get_run(self.run_id))  # raises if it is not there
            else:
                patiently(lambda: self._client.update_run(self.run_id, status="RUNNING"))
        if run.datasets:
            datasets = [_input(dataset) for dataset in run.datasets]
            patiently(lambda: self._client.log_inputs(self.run_id, datasets), shared=True)

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Record what the run was asked to do. Nested mappings become dotted names; a continued run keeps the first.

        What MLflow does not take in a name becomes an underscore.
        """
        from mlflow.entities import Param

        known = patiently(lambda: self._client.get_run(self.run_id)).data.params
        self._log_batch(params=[Param(key, value) for key, value in _flatten(values).items() if key not in known])

    def tags(self, values: Mapping[str, str]) -> None:
        """Label the run."""
        from mlflow.entities import RunTag

        self._log_batch(tags=[RunTag(key, value) for key, value in values.items()])

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each curve, of a run that goes on only where there was none at this step.

        What MLflow does not take in a name becomes an underscore.
        """
        from mlflow.entities import Metric

        new, now = self.missing(values, step) if self._continues else values, int(time.time() * 1000)
        points = [Metric(metric_key(name), value, now, step) for name, value in new.items()]
        for first in range(0, len(points), _BATCH):
            self._log_batch(metrics=points[first : first + _BATCH])

    def missing(self, values: Mapping[str, float], step: int) -> Mapping[str, float]:
        """Those points that the run did not have when it was opened."""
        return {name: value for name, value in values.items() if step not in self._known_steps(metric_key(name))}

    def _known_steps(self, key: str) -> set[int]:
        if key not in self._steps:
            points = patiently(lambda: self._client.get_metric_history(self.run_id, key))
            self._steps[key] = {point.step for point in points}
        return self._steps[key]

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file."""
        patiently(lambda: self._client.log_artifact(self.run_id, str(path), folder))

    def finish(self, status: Status) -> None:
        """Close the run."""
        if not self._only_add:
            close_run(self._client, self.run_id, status)

    def _log_batch(self, **what: Any) -> None:
        patiently(lambda: self._client.log_batch(self.run_id, **what))


def _input(dataset: TrackedDataset) -> Any:
    """A dataset as MLflow has them. By default MLflow would note the script and the account as its source."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entity = Dataset(
        name=f"{dataset.context} cases",
        digest=dataset.digest,
        source_type="unetpipe",
        source="{}",
        profile=json.dumps(dataset.profile),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", dataset.context)])


def metric_key(name: str) -> str:
    """A name that MLflow takes: letters, digits and a few signs, parts between slashes that are not empty or dots."""
    parts = re.sub(r"[^\w.\- /]", "_", name).split("/")
    return "/".join(part for part in parts if part.strip("."))[:_LONGEST_KEY]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[metric_key(prefix + key)] = str(value)
    return flat
