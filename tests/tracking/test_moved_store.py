"""A work folder that was moved or copied, with its store: what is written there stays there."""

import shutil
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from mlflow import MlflowClient

from unetpipe.bundle.read import read_bundle
from unetpipe.config.package import PackageConfig
from unetpipe.config.sync import SyncConfig
from unetpipe.config.train import TrainConfig
from unetpipe.stages.package import package
from unetpipe.stages.sync import sync
from unetpipe.stages.train import TrainResult, train
from unetpipe.tracking.moved_store import follow_folder
from unetpipe.tracking.registry import fetch_model


@pytest.mark.parametrize("place", ["mlflow-artifacts:/1", "file:///{0}/elsewhere", "file:///{0}/other/mlartifacts"])
def test_stores_of_servers_and_of_several_folders_are_left_alone(tmp_path: Path, place: str) -> None:
    """A server has a store and a folder of the same names by default, but places that are none of a work folder."""
    (tmp_path / "mlartifacts").mkdir()
    (tmp_path / "other" / "mlartifacts").mkdir(parents=True)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("unetpipe", artifact_location=place.format(str(tmp_path).lstrip("/")))
    run = client.create_run(experiment).info
    follow_folder(tmp_path, "unetpipe")
    assert client.get_run(run.run_id).info.artifact_uri == run.artifact_uri


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_copy_keeps_its_own_artifacts(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs and models of a copy lie beside its store, old and new; the folder that was copied is not touched."""
    result = train(TrainConfig(work=work, device="cpu", precision="fp32", epochs=1, iterations=2))
    assert isinstance(result, TrainResult)
    package(PackageConfig(model=result.bundle, register_as="balls"))
    copy = Path(shutil.copytree(work, tmp_path / "the copy"))
    before = files_in(work / "mlartifacts")
    bundle = copy / result.bundle.relative_to(work)
    assert sync(SyncConfig(runs=(bundle,))).runs[0].tracking_run == result.tracking_run
    again = train(TrainConfig(work=copy, run_name="again", device="cpu", precision="fp32", epochs=1, iterations=2))
    assert isinstance(again, TrainResult)
    package(PackageConfig(model=again.bundle, register_as="balls"))
    assert files_in(work / "mlartifacts") == before < files_in(copy / "mlartifacts")
    client = MlflowClient(tracking_uri=f"sqlite:///{copy}/mlflow.db")
    for run in (result.tracking_run, again.tracking_run):
        assert run is not None
        place = Path(unquote(urlparse(client.get_run(run).info.artifact_uri or "").path))
        assert place.is_relative_to(copy / "mlartifacts")
        assert (place / "plan.yaml").is_file()
    shutil.rmtree(work)
    moved = Path(shutil.move(copy, tmp_path / "moved"))
    copy.mkdir()  # as something else does that is prepared there
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved}/mlflow.db")
    fetched = fetch_model("models:/balls/1", tmp_path)
    here = moved / bundle.relative_to(copy)
    assert read_bundle(fetched.folder).spec.label_scheme.names == read_bundle(here).spec.label_scheme.names
