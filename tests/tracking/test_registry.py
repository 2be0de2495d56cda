"""A bundle in MLflow's model registry on real servers: registered, loaded, served, fetched, silent about people."""

import getpass
import json
import re
import shutil
import socket
import sys
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import mlflow
import nibabel as nib
import numpy as np
import pytest
from mlflow import MlflowClient

import unetpipe
from unetpipe.bundle.predictor import Predictor
from unetpipe.config.infer import InferConfig
from unetpipe.config.package import PackageConfig
from unetpipe.config.train import TrainConfig
from unetpipe.errors import TrackingError
from unetpipe.stages.infer import infer
from unetpipe.stages.package import package
from unetpipe.stages.train import TrainResult, train
from unetpipe.tracking.registry import RegisteredVersion, _described, fetch_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(on_server: Any, balls_work: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:  # noqa: ARG001
    """A fold that was trained for two steps, with its run on the server."""
    work = shutil.copytree(balls_work, tmp_path_factory.mktemp("registry") / "work")
    result = train(TrainConfig(work=Path(work), device="cpu", precision="fp32", epochs=1, iterations=2))
    assert isinstance(result, TrainResult)
    return result


@pytest.fixture(scope="module")
def registered(trained: TrainResult) -> RegisteredVersion:
    """Its bundle in the registry, as the champion."""
    version = package(PackageConfig(model=trained.bundle, register_as="balls", alias="champion")).registered
    assert version is not None
    return version


@pytest.fixture(scope="module")
def scan(balls: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A scan: its file, intensities (C, I, J, K) and affine."""
    path = balls / "imagesTr" / "ball_0.nii.gz"
    image = nib.load(path)
    return path, np.asarray(image.dataobj, np.float32)[None], image.affine


def test_a_version_says_what_it_is(trained: TrainResult, registered: RegisteredVersion, on_server: Any) -> None:
    """The alias leads to the logged model of the run, with its figures and digests; its description is the card."""
    client = MlflowClient(on_server.uri)
    version = client.get_model_version_by_alias("balls", "champion")
    run = client.get_run(trained.tracking_run)
    assert (int(version.version), version.run_id) == (registered.version, trained.tracking_run)
    assert [output.model_id for output in run.outputs.model_outputs] == [registered.model_id]
    logged = client.get_logged_model(registered.model_id)
    assert logged.source_run_id == trained.tracking_run
    assert {metric.key: metric.value for metric in logged.metrics} == {
        name: value for name, value in run.data.metrics.items() if name.startswith("final_")
    }
    assert {metric.dataset_name for metric in logged.metrics} == {"validation cases"}
    assert len(client.get_metric_history(trained.tracking_run, "final_mean_dice")) == 1
    assert logged.tags.items() >= version.tags.items()
    assert version.tags["dataset"] == run.data.tags["dataset"]
    assert version.tags["plan"] == run.data.tags["plan"]
    assert version.tags["final_dice/bright"] == f"{trained.dice['bright']:.4f}"
    assert version.tags["weights.sha256"] == Predictor(trained.bundle).bundles[0].sha256
    assert version.description == (trained.bundle / "docs" / "README.md").read_text()


def test_the_same_bundle_stays_one_version(trained: TrainResult, registered: RegisteredVersion) -> None:
    """Registered again it is the version that it was; another alias points at it too."""
    again = package(PackageConfig(model=trained.bundle, register_as="balls", alias="candidate")).registered
    assert again == registered.model_copy(update={"alias": "candidate", "uri": "models:/balls@candidate"})


def test_mlflow_loads_it(trained: TrainResult, registered: RegisteredVersion, scan: Any) -> None:
    """As a pyfunc it maps an array and its affine to the labels of the bundle; nothing in it is pickled."""
    mlflow.set_registry_uri(None)
    model = mlflow.pyfunc.load_model(registered.uri)
    _, array, affine = scan
    found = model.predict({"image": array, "affine": affine})
    np.testing.assert_array_equal(found, Predictor(trained.bundle).predict(array, affine))
    assert found.dtype == model.metadata.signature.outputs.inputs[0].type
    example = model.predict(model.input_example)
    assert example.shape == (16, 16, 16)
    assert model.metadata.artifact_path is None  # of a store in a file it would be a path of this machine
    folder = Path(mlflow.artifacts.download_artifacts(registered.uri))
    assert not [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle", ".pyc"}]
    requirements = (folder / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in requirements)
    assert {line.partition("==")[0] for line in requirements} >= {"unetpipe", "torch", "monai", "mlflow"}


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_mlflow_serves_it(
    trained: TrainResult,
    registered: RegisteredVersion,
    scan: Any,
    serve: Callable[[str], AbstractContextManager[str]],
) -> None:
    """Over HTTP a small volume gets the labels of the bundle."""
    _, array, affine = scan
    body = json.dumps({"inputs": {"image": array.tolist(), "affine": affine.tolist()}}).encode()
    with serve(registered.uri) as address:
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        answer = json.load(urllib.request.urlopen(request, timeout=60))
    np.testing.assert_array_equal(answer["predictions"], Predictor(trained.bundle).predict(array, affine))


def test_infer_fetches_it(trained: TrainResult, registered: RegisteredVersion, scan: Any, tmp_path: Path) -> None:
    """By alias and by number it gives the labels that the bundle gives, and predictions.json says which version."""
    path, array, affine = scan
    expected = Predictor(trained.bundle).predict(array, affine)
    for uri in ("models:/balls@champion", f"models:/balls/{registered.version}"):
        result = infer(InferConfig(models=(Path(uri),), inputs=(path,), out=tmp_path, device="cpu"))
        np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "ball_0.nii.gz").dataobj), expected)
        (model,) = json.loads(result.predictions.read_text())["models"]
        assert (model["name"], model["tracking_run"]) == ("balls", trained.tracking_run)
        assert model["registered"] == f"models:/balls/{registered.version}"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/balls@nobody", "models:/balls@nobody cannot be fetched: .*alias nobody not found"),
        ("models:/cubes/1", "models:/cubes/1 cannot be fetched: .*not found"),
        ("models:/balls", "models:/balls: expected models:/NAME/VERSION or models:/NAME@ALIAS"),
    ],
)
@pytest.mark.usefixtures("registered")
def test_a_model_that_is_not_there_is_one_line(uri: str, message: str) -> None:
    """What cannot be fetched is named."""
    with pytest.raises(TrackingError, match=message) as caught:
        Predictor(uri)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("registered")
def test_no_store_knows_who_or_where(trained: TrainResult, balls: Path, on_server: Any) -> None:
    """No table and no file of the server holds the account, the host, a script, or a path or case of the dataset."""
    account = getpass.getuser()
    names = [account, socket.gethostname(), str(balls), str(trained.bundle.parents[2]), "ball_0", "/tmp"]
    names += [str(Path(unetpipe.__file__).parent), sys.argv[0], str(Path.home())]
    private = re.compile("|".join(rf"(?<![\w/]){re.escape(name)}(?!\w)" for name in names))
    tables = on_server.everything()
    assert {"runs", "logged_models", "model_versions", "registered_model_aliases", "datasets"} <= set(tables)
    assert account == "slartibartfast"
    assert {name: found for name, values in tables.items() if (found := private.findall(" ".join(values)))} == {}
    texts = [
        path for path in on_server.artifacts.rglob("*") if path.suffix in {"", ".json", ".yaml", ".txt", ".md", ".py"}
    ]
    written = {path.name: path.read_text() for path in texts if path.is_file()}
    assert {"MLmodel", "metadata.json", "plan.yaml", "requirements.txt", "input_example.json"} <= set(written)
    assert {name: found for name, text in written.items() if (found := private.findall(text))} == {}


@pytest.mark.usefixtures("on_server")
def test_a_copied_version_is_fetched_too(trained: TrainResult, registered: RegisteredVersion, tmp_path: Path) -> None:
    """As a version is promoted to another name: its files are those of the first, and so is its model."""
    MlflowClient().copy_model_version(f"models:/balls/{registered.version}", "prod")
    assert (fetch_model("models:/prod/1", tmp_path).folder / "configs" / "metadata.json").is_file()
    again = package(PackageConfig(model=trained.bundle, register_as="prod")).registered
    assert again is not None
    assert (again.version, again.model_id) == (1, registered.model_id)


def test_a_long_card_is_cut_between_paragraphs() -> None:
    """Databases other than SQLite take 5000 characters."""
    text = "A sentence.\n\n" * 1000
    found = _described(text)
    assert len(found) <= 5000
    assert found.startswith("A sentence.\n\nA sentence.")
    assert found.endswith("A sentence.\n\n(The card goes on in docs/README.md among the model's files.)")
    assert _described(text[:100]) == text[:100]
