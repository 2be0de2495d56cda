"""How a run of MLflow is found, started and closed, by a store that may take a request and lose its answer."""

import secrets
from functools import partial
from typing import Any

from unetpipe.tracking.patience import patiently
from unetpipe.tracking.tracker import Status

_PARENT = "mlflow.parentRunId"
_START = "unetpipe.start"


def find_run(client: Any, run_id: str) -> Any | None:
    """A run of a store; None where it has no such run, or it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == "active" else None


def start_run(client: Any, experiment: str, name: str, parent_id: str | None) -> str:
    """Start a run, and return its id.

    A request whose answer was lost is sent again, and may then have started two runs. They have a tag in common, by
    which `close_run` finds the one that nobody knows of.

    Args:
        client: Client of MLflow.
        experiment: Id of the experiment that it belongs to.
        name: Name in the list of runs.
        parent_id: Id of the run that it is a part of; None where there is none.
    """
    tags = {_START: secrets.token_hex(8)} | ({_PARENT: parent_id} if parent_id else {})
    return str(patiently(lambda: client.create_run(experiment, run_name=name, tags=tags)).info.run_id)


def close_run(client: Any, run_id: str, status: Status) -> None:
    """Give a run its final status, and delete what a repeated request has started besides it."""
    patiently(lambda: client.set_terminated(run_id, status))
    run = patiently(lambda: client.get_run(run_id))
    if token := run.data.tags.get(_START):
        same = patiently(lambda: client.search_runs([run.info.experiment_id], f"tags.`{_START}` = '{token}'"))
        for other in {one.info.run_id for one in same} - {run_id}:
            patiently(partial(client.delete_run, other))
