"""MLflow's model registry: models are logged and registered under a name, and fetched by it."""

import json
import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unetpipe.documents import Record
from unetpipe.errors import TrackingError
from unetpipe.tracking.runs import find_run
from unetpipe.tracking.store import (
    client_of,
    follow_own_folder,
    named_for_mlflow,
    named_tracking_uri,
    open_store,
    store_errors,
)

log = logging.getLogger(__name__)

REGISTERED = "models:/"
_OF_THE_RUN = ("dataset", "plan", "unetpipe", "torch", "final_dice")  # its tags that a model takes over
_FIGURES = "final_"  # how its figures begin that a model takes over as tags
_LONGEST_DESCRIPTION = 5000  # characters that databases other than SQLite take
_CUT = "\n\n(The card goes on in docs/README.md among the model's files.)"
DATA = "bundle"  # what a model's code finds its data under, and their folder in the model
_URI = re.compile(r"models:/+(?P<name>[^/@:]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@:]+))")


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What MLflow needs to load a model and to serve it.

    Attributes:
        code: Python file that MLflow copies into the model and runs to load it ("models from code").
        data: Folder that the code is given as its artifact `DATA`.
        example: An input by the names of its arrays.
        sizes: Shape of each input by its name; -1 stands for any size.
        output: Name, type and number of axes of the output.
        requirements: Packages with their versions, as pip takes them.
    """

    code: Path
    data: Path
    example: Mapping[str, NDArray[Any]]
    sizes: Mapping[str, tuple[int, ...]]
    output: tuple[str, str, int]
    requirements: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How a model is registered.

    Attributes:
        name: Name of the registered model.
        alias: Name that is to point at the new version, such as ``champion``; None leaves all aliases alone.
        digest: Identifies the model: what is registered under this name already, with this digest, stays one version.
        run_id: Run that trained the model; None where it is not known.
        tags: Labels of the version.
        parameters: What the model takes and gives.
        description: Markdown.
    """

    name: str
    alias: str | None
    digest: str
    run_id: str | None
    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    description: str


class FetchedModel(NamedTuple):
    """The data of a registered model.

    Attributes:
        folder: Folder that they were written into.
        uri: ``models:/NAME/VERSION``, where the version is the one that an alias pointed at.
    """

    folder: Path
    uri: str


class RegisteredVersion(Record):
    """A version of a registered model.

    Attributes:
        name: Name of the registered model.
        version: Number of the version, from 1.
        alias: Name that was made to point at it.
        uri: What `unetpipe infer` takes in place of a path, with `MLFLOW_TRACKING_URI` set.
        model_id: MLflow's id of the logged model.
        tracking_run: Run that trained it; None where the store has no such run.
    """

    name: str
    version: int
    alias: str | None
    uri: str
    model_id: str
    tracking_run: str | None


def register_model(model: ServedModel, entry: Entry, work: Path) -> RegisteredVersion:
    """Log a model and register it as the next version of its name.

    Args:
        model: Model to log.
        entry: How to register it.
        work: Work folder whose store is used unless the environment names another.

    Raises:
        TrackingError: If the store does not answer, or takes no such name.
    """
    with store_errors(f"{entry.name} cannot be registered"), named_for_mlflow(work):
        client, experiment = open_store(work)
        version = _same_version(client, entry)
        if version is None:
            version = _new_version(client, experiment, model, entry)
        else:
            log.info("this model is version %s of %s already", version.version, entry.name)
        if entry.alias:
            client.set_registered_model_alias(entry.name, entry.alias, version.version)
        model_id = _model_id(client, version)
    suffix = f"@{entry.alias}" if entry.alias else f"/{version.version}"
    return RegisteredVersion(
        name=entry.name,
        version=int(version.version),
        alias=entry.alias,
        uri=f"{REGISTERED}{entry.name}{suffix}",
        model_id=model_id,
        tracking_run=version.run_id or None,
    )


def fetch_model(uri: str, folder: Path) -> FetchedModel:
    """Fetch the data of a registered model from the store that `MLFLOW_TRACKING_URI` names.

    Args:
        uri: ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``.
        folder: Folder to write them into, under the name of the model.

    Raises:
        TrackingError: If the URI is another, no store is named or answers, or it has no such model.
    """
    found = _URI.fullmatch(uri)
    if not found:
        raise TrackingError(f"{uri}: expected {REGISTERED}NAME/VERSION or {REGISTERED}NAME@ALIAS")
    store = named_tracking_uri()
    if store is None:
        raise TrackingError(f"{uri}: MLFLOW_TRACKING_URI must name the store, such as sqlite:////data/work/mlflow.db")
    name, version, alias = found["name"], found["version"], found["alias"]
    with store_errors(f"{uri} cannot be fetched"):
        follow_own_folder(store)
        client = client_of(store)
        if alias is None:
            registered = client.get_model_version(name, version)
        else:
            registered = client.get_model_version_by_alias(name, alias)
        log.info("model %s: version %s of the registry", name, registered.version)
        target = _downloaded(client, registered, store, folder / name)
    return FetchedModel(target, f"{REGISTERED}{name}/{registered.version}")


def _downloaded(client: Any, registered: Any, store: str, target: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    location = client.get_model_version_download_uri(registered.name, registered.version)  # also of a copied version
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        found = download_artifacts(f"{location}/artifacts/{DATA}", dst_path=scratch, tracking_uri=store)
        shutil.move(found, target)
    return target


def _model_id(client: Any, version: Any) -> str:
    """Id of the logged model that a version, or the version that it was copied from, is of.

    Where the first version is gone, the name and number that it had.
    """
    from mlflow.exceptions import MlflowException

    source = str(version.source.removeprefix(REGISTERED))
    while "/" in source:
        name, _, number = source.rpartition("/")
        try:
            source = str(client.get_model_version(name, number).source.removeprefix(REGISTERED))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            break
    return source


def _described(text: str) -> str:
    """A description that MLflow's tables take, cut between two paragraphs."""
    if len(text) <= _LONGEST_DESCRIPTION:
        return text
    room = text[: _LONGEST_DESCRIPTION - len(_CUT)]
    return (room.rpartition("\n\n")[0] or room) + _CUT


def _same_version(client: Any, entry: Entry) -> Any | None:
    """The version that has the same digest; None where there is none."""
    versions = client.search_model_versions(f"name = '{entry.name}'")
    return next((version for version in versions if version.tags.get("digest") == entry.digest), None)


def _new_version(client: Any, experiment: str, model: ServedModel, entry: Entry) -> Any:
    from mlflow.entities import LoggedModelOutput
    from mlflow.exceptions import MlflowException

    run = find_run(client, entry.run_id) if entry.run_id else None
    if run is None:
        log.warning(
            "the store does not have the run that trained the model: it is registered without figures and digests "
            "(unetpipe sync RUN sends the run)"
        )
    run_id = run and run.info.run_id
    tags = {**entry.tags, "digest": entry.digest}
    if run:
        tags |= {key: run.data.tags[key] for key in _OF_THE_RUN if key in run.data.tags}
        tags |= {key: f"{value:.4f}" for key, value in run.data.metrics.items() if key.startswith(_FIGURES)}
    logged = client.create_logged_model(
        experiment, entry.name, run_id, tags=tags, params=dict(entry.parameters), model_type="segmentation"
    )
    with tempfile.TemporaryDirectory(prefix="unetpipe-") as scratch:
        folder = Path(scratch) / "model"
        _write_model(folder, model, logged, run_id)
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    if run:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        _log_figures(client, run, logged.model_id)
    try:
        client.create_registered_model(entry.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        entry.name,
        source=f"{REGISTERED}{logged.model_id}",
        run_id=run_id,
        tags=tags,
        description=_described(entry.description),
        model_id=logged.model_id,
    )
    link = [{"name": version.name, "version": version.version}]  # by which MLflow's page of the model finds its version
    client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": json.dumps(link)})
    return version


def _log_figures(client: Any, run: Any, model_id: str) -> None:
    """Give a model the figures of its run that are final, as measured on the run's held-out cases."""
    from mlflow.entities import Metric

    held_out = [one.dataset for one in run.inputs.dataset_inputs if "validation" in {tag.value for tag in one.tags}]
    dataset = {"dataset_name": held_out[0].name, "dataset_digest": held_out[0].digest} if held_out else {}
    names = [name for name in run.data.metrics if name.startswith(_FIGURES)]
    points = [client.get_metric_history(run.info.run_id, name)[-1] for name in names]
    figures = [
        Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id, **dataset) for point in points
    ]
    client.log_batch(run.info.run_id, metrics=figures)


def _write_model(folder: Path, model: ServedModel, logged: Any, run_id: str | None) -> None:
    """Write MLflow's folder of a model: its code, data, signature, example and requirements."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    name, kind, axes = model.output
    inputs = [TensorSpec(array.dtype, model.sizes[key], key) for key, array in model.example.items()]
    outputs = [TensorSpec(np.dtype(kind), (-1,) * axes, name)]
    described = Model(model_uuid=logged.model_id, model_id=logged.model_id, run_id=run_id)  # without the store's path
    with warnings.catch_warnings(record=True):  # it asks for type hints, in whose place is the signature
        pyfunc.save_model(
            folder,
            python_model=str(model.code),
            artifacts={DATA: str(model.data)},
            signature=ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs)),
            input_example=dict(model.example),
            pip_requirements=list(model.requirements),
            mlflow_model=described,
        )
    flavor = described.flavors["python_function"]  # has the paths of what was copied, where only the copies count
    flavor["model_code_path"] = model.code.name
    flavor["artifacts"][DATA]["uri"] = flavor["artifacts"][DATA]["path"]
    described.save(str(folder / "MLmodel"))
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)
