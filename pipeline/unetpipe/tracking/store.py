"""The store of MLflow: where it is, and how it is opened.

It is the one that `MLFLOW_TRACKING_URI` names, or a SQLite file in the work folder. MLflow's fluent interface is not
used because it records the account and the script's path by itself; what a client is given is all that a store holds.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from unetpipe.errors import TrackingError
from unetpipe.files import new_path
from unetpipe.tracking.moved_store import ARTIFACTS, STORE, follow_folder

EXPERIMENT = "unetpipe"
_SQLITE = "sqlite:"
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
_TIMEOUT_SECONDS = "10"  # for a server that may not be there
_BUSY_TIMEOUT_SECONDS = "30"  # for one that is: on SQLite it waits up to 20 for others that write
_SETTINGS = {  # by default MLflow waits minutes for a server that is not there, and reports every call to its makers
    _TIMEOUT: _TIMEOUT_SECONDS,
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # else MLflow's page opens as one for language models


_NAMING = threading.Lock()  # one model is registered at a time
_STATE = threading.Lock()  # the environment and what is lent are changed and read together
_LENT: list[str | None] = []
"""What the environment named before it was lent to MLflow."""


def named_tracking_uri() -> str | None:
    """The store that `MLFLOW_TRACKING_URI` names; None where it is not set, or only lent to MLflow."""
    with _STATE:
        return _LENT[0] if _LENT else os.environ.get("MLFLOW_TRACKING_URI") or None


def default_tracking_uri(work: Path) -> str:
    """`MLFLOW_TRACKING_URI` where it is set, else a SQLite file in the work folder."""
    return named_tracking_uri() or _file_uri(work / STORE)


def has_store(work: Path | None) -> bool:
    """Whether a store is known without making one: the environment names it, or the work folder has it."""
    return named_tracking_uri() is not None or (work is not None and (work / STORE).is_file())


def is_file_store(work: Path) -> bool:
    """Whether the store is a SQLite file."""
    return default_tracking_uri(work).startswith(_SQLITE)


@contextmanager
def named_for_mlflow(work: Path) -> Iterator[None]:
    """Name the store in the environment while MLflow looks up there what it was told by its client already.

    Its model registry in a database does so (`SqlAlchemyStore.create_model_version`). One thread at a time, as work
    folders have stores of their own.
    """
    with _NAMING:
        before, uri = named_tracking_uri(), default_tracking_uri(work)
        try:
            with _STATE:
                _LENT.append(before)
                _name(uri)
            yield
        finally:
            with _STATE:
                _name(before)
                _LENT.clear()


def _name(uri: str | None) -> None:
    if uri is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    else:
        os.environ["MLFLOW_TRACKING_URI"] = uri


def open_store(work: Path) -> tuple[Any, str]:
    """Open the store of a work folder, which is made where there is none.

    A server gets little time for its first answer, as it may not be there, and more from then on.

    Returns:
        A client of MLflow, and the id of the experiment that all runs belong to.

    Raises:
        Exception: Whatever MLflow raises when the store does not answer.
    """
    uri = default_tracking_uri(work)
    path = Path(uri.removeprefix(f"{_SQLITE}///"))
    if uri == _file_uri(path) and not path.exists():
        _make_file(path, work)
    follow_own_folder(uri)
    client = client_of(uri)
    experiment = _experiment(client, uri, work)
    if os.environ[_TIMEOUT] == _TIMEOUT_SECONDS:
        os.environ[_TIMEOUT] = _BUSY_TIMEOUT_SECONDS
    return client, experiment


def follow_own_folder(uri: str) -> None:
    """Let a store in a work folder follow it, if it was moved or copied; other stores are left as they are.

    Raises:
        sqlite3.Error: If the store cannot be read or, where that is needed, written.
    """
    path = Path(uri.removeprefix(f"{_SQLITE}///"))
    if uri.startswith(_SQLITE) and path.name == STORE:
        follow_folder(path.parent, EXPERIMENT)


def client_of(uri: str) -> Any:
    """Make a client of the store at a URI, which gives up soon where no server answers and reports to nobody."""
    for setting, value in _SETTINGS.items():
        os.environ.setdefault(setting, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    from mlflow import MlflowClient  # takes two seconds

    return MlflowClient(tracking_uri=uri)


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn what MLflow, the store's driver or the network raise into one line.

    Args:
        what: What was attempted, as the beginning of the message.

    Raises:
        TrackingError: In place of the error.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrackingError(f"{what}: {reason}") from error


def _make_file(path: Path, work: Path) -> None:
    """Make a SQLite store under another name and give it its own when it is whole, unless somebody else was faster.

    MLflow builds its tables in many steps: processes that start at the same time would undo each other's, and lose what
    the first of them has written by then.
    """
    with new_path(path) as made:
        uri = _file_uri(made)
        _experiment(client_of(uri), uri, work)
        with closing(sqlite3.connect(made)) as database, database:
            database.execute("pragma secure_delete = on")
            # MLflow's own experiment, which holds no run, has the folder that the command was called from
            database.execute("update experiments set artifact_location = ?", [_artifacts_uri(work)])


def _artifacts_uri(work: Path) -> str:
    return (work / ARTIFACTS).resolve().as_uri()


def _file_uri(path: Path) -> str:
    return f"{_SQLITE}///{path.resolve().as_posix()}"


def _experiment(client: Any, uri: str, work: Path) -> str:
    """Id of the experiment, which is made unless another process, perhaps at this moment, has made it."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        local = _artifacts_uri(work) if uri.startswith(_SQLITE) else None
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=local, tags=_KIND))
        except MlflowException:
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise
    return str(experiment.experiment_id)
