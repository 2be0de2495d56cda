"""MLflow as a tracker.

What goes in is chosen by the caller: no path, no patient, no user name. mlflow's fluent interface is avoided because it
records the user and the script's path by itself.
"""

import logging
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetpipe.tracking.tracker import Status, TrackedRun

EXPERIMENT = "unetpipe"
_STORE = "mlflow.db"
_SQLITE = "sqlite:"
_SETTINGS = {  # by default MLflow waits minutes for a server that is not there, and reports every call to its makers
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # else MLflow's page opens as one for language models
_BATCH = 1000  # metrics that MLflow takes in one call
_LONGEST_KEY = 250


def default_tracking_uri(work: Path) -> str:
    """`MLFLOW_TRACKING_URI` where it is set, else a SQLite file in the work folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _file_uri(work / _STORE)


def has_store(work: Path | None) -> bool:
    """Whether a store is known without making one: the environment names it, or the work folder has it."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (work is not None and (work / _STORE).is_file())


def is_file_store(work: Path) -> bool:
    """Whether the store is a SQLite file."""
    return default_tracking_uri(work).startswith(_SQLITE)


class MlflowTracker:
    """A run of MLflow, in the store of the environment or of the work folder.

    Attributes:
        run_id: MLflow's id of the run.
    """

    run_id: str

    def __init__(self, run: TrackedRun) -> None:
        """Start or continue a run.

        Raises:
            Exception: Whatever MLflow raises when the store does not answer or has no such run.
        """
        self._client, experiment = _open(default_tracking_uri(run.work), run.work)
        self._only_add = run.only_add and run.run_id is not None
        if run.run_id is None:
            tags = {"mlflow.parentRunId": run.parent_id} if run.parent_id else {}
            self.run_id = self._client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
            return
        self.run_id = run.run_id
        if self._only_add:
            self._client.get_run(self.run_id)  # raises if it is not there
        else:
            self._client.update_run(self.run_id, status="RUNNING")

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Record what the run was asked to do. Nested mappings become dotted names; a continued run keeps the first."""
        from mlflow.entities import Param

        known = self._client.get_run(self.run_id).data.params
        new = [Param(key, value) for key, value in _flatten(values).items() if key not in known]
        self._client.log_batch(self.run_id, params=new)

    def tags(self, values: Mapping[str, str]) -> None:
        """Label the run."""
        from mlflow.entities import RunTag

        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in values.items()])

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each curve. What MLflow does not take in a name becomes an underscore."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(_key(name), value, now, step) for name, value in values.items()]
        for first in range(0, len(points), _BATCH):
            self._client.log_batch(self.run_id, metrics=points[first : first + _BATCH])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file."""
        self._client.log_artifact(self.run_id, str(path), folder)

    def finish(self, status: Status) -> None:
        """Close the run."""
        if not self._only_add:
            self._client.set_terminated(self.run_id, status)


def _open(uri: str, work: Path) -> tuple[Any, str]:
    """A client of the store, and the id of the experiment that all runs belong to; both are made where they are not."""
    for setting, value in _SETTINGS.items():
        os.environ.setdefault(setting, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    from mlflow import MlflowClient  # takes two seconds

    path = Path(uri.removeprefix(f"{_SQLITE}///"))
    if uri == _file_uri(path) and not path.exists():
        _make_file(path, work)
    client = MlflowClient(tracking_uri=uri)
    return client, _experiment(client, uri, work)


def _make_file(path: Path, work: Path) -> None:
    """Make a SQLite store under another name and give it its own when it is whole, unless somebody else was faster.

    MLflow builds its tables in many steps: processes that start at the same time would undo each other's, and lose what
    the first of them has written by then.
    """
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent) as folder:
        made = Path(folder) / path.name
        uri = _file_uri(made)
        _experiment(MlflowClient(tracking_uri=uri), uri, work)
        try:
            os.link(made, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                made.replace(path)


def _file_uri(path: Path) -> str:
    return f"{_SQLITE}///{path.resolve().as_posix()}"


def _experiment(client: Any, uri: str, work: Path) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    local = (work / "mlartifacts").resolve().as_uri() if uri.startswith(_SQLITE) else None
    return str(client.create_experiment(EXPERIMENT, artifact_location=local, tags=_KIND))


def _key(name: str) -> str:
    """A name that MLflow takes: letters, digits and a few signs, parts between slashes that are not empty or dots."""
    parts = re.sub(r"[^\w.\- /]", "_", name).split("/")
    return "/".join(part for part in parts if part.strip("."))[:_LONGEST_KEY]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat
