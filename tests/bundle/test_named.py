"""Models are called by a path, by the name of a bundle, or by a URI of the registry."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from unetpipe.bundle import catalogue, named
from unetpipe.bundle.catalogue import Index, IndexedBundle
from unetpipe.bundle.named import read_models
from unetpipe.bundle.read import read_bundle
from unetpipe.config.info import InfoConfig
from unetpipe.config.models import ModelsConfig
from unetpipe.errors import BundleError, TrackingError
from unetpipe.stages.info import BundleFolder, info
from unetpipe.stages.models import models


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder of bundles, and another one to work in; nothing ships."""
    monkeypatch.setattr(catalogue, "_shipped_folders", lambda: iter([tmp_path / "shipped"]))
    index(monkeypatch)
    monkeypatch.setenv("UNETPIPE_BUNDLES", str(tmp_path / "mine"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def index(monkeypatch: pytest.MonkeyPatch, *bundles: IndexedBundle) -> None:
    """Let these be the bundles that ship."""
    for module in (catalogue, named):
        monkeypatch.setattr(module, "read_index", lambda: Index(bundles=bundles))


def shipped(**changes: object) -> IndexedBundle:
    """An entry of the index for the bundle `organs`."""
    entry = {
        "name": "organs",
        "version": "0.1.0",
        "task": "organs in CT",
        "licence": "CC0",
        "size_mb": 1.5,
        "sha256": "",
    }
    return IndexedBundle.model_validate(entry | {"source": "https://example.org/organs.zip"} | changes)


def test_a_bundle_is_found_by_its_name(bundle_folder: Path, folder: Path, logged: list[str]) -> None:
    """In the user's folder as a folder or a zip; a line says which version was taken, and from where."""
    shutil.copytree(bundle_folder, folder / "organs")
    (bundle,) = read_models("organs")
    assert bundle.sha256 == read_bundle(bundle_folder).sha256
    assert logged == [f"model organs: version 0.1.0 in {folder}"]
    shutil.make_archive(str(folder / "packed"), "zip", bundle_folder)
    assert read_models(Path("packed"))[0].name == "packed"


def test_the_users_bundle_comes_before_the_shipped_one(
    make_bundle: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    """Of two with one name."""
    mine, theirs = make_bundle("a", seed=1), make_bundle("b", seed=2)
    shutil.copytree(theirs, tmp_path / "shipped" / "organs")
    assert read_models("organs")[0].sha256 == read_bundle(theirs).sha256
    shutil.copytree(mine, folder / "organs")
    assert read_models("organs")[0].sha256 == read_bundle(mine).sha256


def test_what_is_in_the_current_folder_comes_first(
    make_bundle: Callable[..., Path], folder: Path, logged: list[str]
) -> None:
    """A path that exists means that path, and a line says so where a bundle has the same name."""
    here, other = make_bundle("a", seed=1), make_bundle("b", seed=2)
    shutil.copytree(other, folder / "organs")
    shutil.copytree(here, "organs")
    assert read_models("organs")[0].sha256 == read_bundle(here).sha256
    assert logged == ["model organs: what is in this folder, and not the bundle that has the same name"]
    logged.clear()
    for path in ("./organs", folder / "organs"):
        read_models(path)
    assert logged == []


def test_an_unknown_name_lists_what_there_is(
    bundle_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bundles that are here by their names; for one that ships and is not here, where it can be had."""
    with pytest.raises(BundleError, match=r"organ: no such file or folder, and no bundle .*there are: none$"):
        read_models("organ")
    shutil.copytree(bundle_folder, folder / "liver")
    index(monkeypatch, shipped())
    with pytest.raises(BundleError, match=r"bundles that there are: liver, organs$"):
        read_models("organ")
    with pytest.raises(BundleError, match=r"organs: not on this machine: get it from https://example.org/organs.zip"):
        read_models("organs")
    with pytest.raises(BundleError, match=r"not found: expected a bundle folder"):
        read_models("runs/organ")


def test_other_weights_under_a_shipped_version_are_refused(
    bundle_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version is one model: its weights are those of the index. Another version has its own."""
    shutil.copytree(bundle_folder, folder / "organs")
    index(monkeypatch, shipped(sha256="0" * 64))
    with pytest.raises(BundleError, match=r"its weights are not those of version 0.1.0"):
        read_models("organs")
    for entry in (shipped(sha256=read_bundle(bundle_folder).sha256), shipped(sha256="0" * 64, version="0.2.0")):
        index(monkeypatch, entry)
        assert read_models("organs")


def test_models_are_listed(bundle_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are here, a damaged one among them, and those that could be."""
    shutil.copytree(bundle_folder, folder / "liver")
    (folder / "damaged.zip").write_bytes(b"no zip")
    index(monkeypatch, shipped())
    rows = {row.name: row for row in models(ModelsConfig()).bundles}
    assert list(rows) == ["damaged", "liver", "organs"]
    assert rows["liver"].model_dump(include={"version", "here", "where"}) == {
        "version": "0.1.0",
        "here": True,
        "where": str(folder / "liver"),
    }
    assert rows["damaged"].task == "cannot be read: damaged.zip: not a readable zip: the zip is damaged"
    assert (rows["organs"].here, rows["organs"].licence) == (False, "CC0")


def test_info_describes_a_bundle_by_its_name(bundle_folder: Path, folder: Path) -> None:
    """As by its path."""
    shutil.copytree(bundle_folder, folder / "organs")
    found = info(InfoConfig(path=Path("organs")))
    assert isinstance(found, BundleFolder)
    assert found == info(InfoConfig(path=bundle_folder))


def test_a_registered_model_needs_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MLFLOW_TRACKING_URI nobody knows which registry is meant."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI must name the store"):
        read_models(Path("models:/organs@champion"))


def test_the_index_describes_the_shipped_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder in `bundles` of the checkout has an entry with its version, weights and size, no other has one."""
    monkeypatch.undo()
    root = Path(catalogue.__file__).resolve().parents[3]
    entries = json.loads((root / "pipeline/unetpipe/bundle/resources/index.json").read_text())["bundles"]
    folders = sorted(path.parents[1] for path in (root / "bundles").glob("*/configs/metadata.json"))
    assert [entry["name"] for entry in entries] == [path.name for path in folders]
    for entry, path in zip(entries, folders, strict=True):
        bundle = read_bundle(path)
        found = {**catalogue.described(path), "sha256": bundle.sha256}
        assert {key: entry[key] for key in found} == found, "run bundles/refresh_index.py"
