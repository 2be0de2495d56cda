"""Experiment tracking that never breaks, and never slows, a run.

Calls are queued and carried out by a thread. When the store does not answer, one line says so and the run goes on;
its files have the figures in any case. What goes in is chosen by the caller: no path, no patient,
no user name. mlflow's fluent interface is avoided because it records the user and the script's path by itself.
"""

import logging
import os
import queue
import re
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

log = logging.getLogger(__name__)

EXPERIMENT = "unetpipe"
_STORE = "mlflow.db"
_PATIENCE = 60.0  # seconds that finishing a run waits for the store
_MLFLOW = {  # by itself it waits minutes for a server that is not there, and tells its makers of every call
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # else MLflow's page opens as one for language models
_BATCH = 1000  # metrics that MLflow takes in one call
_LONGEST_KEY = 250

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(Protocol):
    """Where a run's parameters, curves and figures go."""

    @property
    def run_id(self) -> str | None: ...

    def parameters(self, values: Mapping[str, Any]) -> None: ...

    def tags(self, values: Mapping[str, str]) -> None: ...

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def artifact(self, path: Path, folder: str | None = None) -> None: ...

    def finish(self, status: Status) -> None: ...


def default_tracking_uri(work: Path) -> str:
    """`MLFLOW_TRACKING_URI` where it is set, else a SQLite file in the work folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(work / _STORE).resolve().as_posix()}"


def has_store(work: Path | None) -> bool:
    """Whether a store is known without making one: the environment names it, or the work folder has it."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (work is not None and (work / _STORE).is_file())


class MlflowTracker:
    """One MLflow run, new or continued."""

    def __init__(
        self,
        work: Path,
        name: str,
        run_id: str | None,
        *,
        only_add: bool = False,
        parent: "MlflowTracker | None" = None,
    ) -> None:
        """Start or continue a run.

        Args:
            work: Its `mlflow.db` is the store unless the environment names another.
            name: Shown in the list of runs.
            run_id: Of the run to continue; None starts one.
            only_add: Leave the status and the times of the run to be continued as they are: it has ended.
            parent: Run that this one is a part of: MLflow shows it below that one.
        """
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._broken = False
        self._run_id = run_id
        self._only_add = only_add and run_id is not None
        self._parent = parent
        self._answered = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._jobs.put(lambda: self._start(work, name))
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        """None while the store has not answered yet."""
        return self._run_id

    @property
    def complete(self) -> bool:
        """Whether the store has taken everything; to be asked when the run is finished."""
        return not (self._broken or self._thread.is_alive())

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Record what the run was asked to do. Nested mappings become dotted names; a continued run keeps the first."""
        flat = _flatten(values)
        self._put(lambda: self._log_batch(params=flat))

    def tags(self, values: Mapping[str, str]) -> None:
        """Label the run."""
        self._put(lambda: self._log_batch(tags=dict(values)))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each curve. What MLflow does not take in a name becomes an underscore."""
        named = [(_key(name), value) for name, value in values.items()]
        for first in range(0, len(named), _BATCH):
            part = dict(named[first : first + _BATCH])
            self._put(partial(self._log_batch, metrics=part, step=step))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a copy of a file. It must not change until the run is finished, or it is stored as it is then."""
        self._put(lambda: self._client.log_artifact(self._run_id, str(path), folder))

    def finish(self, status: Status) -> None:
        """Close the run, waiting a limited time for what is queued."""
        if not self._only_add:
            self._put(lambda: self._client.set_terminated(self._run_id, status))
        self._jobs.put(None)
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            log.warning("the tracking store did not take everything in time")

    def _put(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._broken:
                continue
            try:
                job()
            except Exception as error:  # whatever a store, its driver or the network throw: the run goes on
                self._broken = True
                self._answered.set()
                log.warning("tracking stopped, the run goes on (%s)", type(error).__name__)

    def _start(self, work: Path, name: str) -> None:
        for setting, value in _MLFLOW.items():
            os.environ.setdefault(setting, value)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        from mlflow import MlflowClient  # two seconds, spent in this thread

        uri = default_tracking_uri(work)
        self._client = MlflowClient(tracking_uri=uri)
        if self._only_add:
            self._client.get_run(self._run_id)  # raises if it is not there
            return
        if self._run_id is not None:
            self._client.update_run(self._run_id, status="RUNNING")
            self._answered.set()
            return
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            identifier = experiment.experiment_id
        else:
            local = (work / "mlartifacts").resolve().as_uri() if uri.startswith("sqlite:") else None
            identifier = self._client.create_experiment(EXPERIMENT, artifact_location=local, tags=_KIND)
        tags = {}
        if self._parent is not None and self._parent._answered.wait(_PATIENCE) and self._parent.run_id:
            tags["mlflow.parentRunId"] = self._parent.run_id
        self._run_id = self._client.create_run(identifier, run_name=name, tags=tags).info.run_id
        self._answered.set()

    def _log_batch(
        self,
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> None:
        import time

        from mlflow.entities import Metric, Param, RunTag

        known = self._client.get_run(self._run_id).data.params if params else {}
        self._client.log_batch(
            self._run_id,
            params=[Param(key, value) for key, value in (params or {}).items() if key not in known],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
            metrics=[Metric(key, value, int(time.time() * 1000), step) for key, value in (metrics or {}).items()],
        )


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
