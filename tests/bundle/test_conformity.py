"""`unetpipe bundle` checks what the Model Zoo's CI asks for, offline."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from unetpipe.bundle import large_files
from unetpipe.bundle.verify import verify_bundle
from unetpipe.config.package import PackageConfig
from unetpipe.stages.package import package


def _faults(folder: Path) -> dict[str, str]:
    return {check.name: check.message for check in verify_bundle(folder) if not check.passed}


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        ("train", lambda c: c["train"].pop("inferer"), "train.json: train::inferer is missing"),
        ("evaluate", lambda c: c.pop("dataset_dir"), "evaluate.json: dataset_dir is missing"),
        (
            "inference",
            lambda c: c["evaluator"].update(val_handlers=c["handlers"]),
            "inference.json: evaluator::val_handlers should be @handlers",
        ),
    ],
)
def test_properties_that_workflows_look_up_are_required(
    bundle_folder: Path, config: str, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """What MONAI's `check_properties` would miss is named, without running the config."""
    _edit(bundle_folder / "configs" / f"{config}.json", change)
    assert message in _faults(bundle_folder)["workflows"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(references=[1]), "references.0: 1 is not of type 'string'"),
        (lambda m: m.update(authors=""), "authors: '' should be non-empty"),
        (lambda m: m.pop("intended_use"), "'intended_use' is a required property"),
    ],
)
def test_metadata_follow_the_schema(
    bundle_folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """A value of another type, an empty text or a missing key does not pass."""
    _edit(bundle_folder / "configs" / "metadata.json", change)
    assert message in _faults(bundle_folder)["metadata"]


def test_large_files_are_listed_and_keep_their_address(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file above the limit is in `large_files.yml` with its hash; an address filled in stays, notes or not."""
    assert not (bundle_folder / "large_files.yml").exists()
    monkeypatch.setattr(large_files, "_LARGEST", 1000)
    assert "above 25 MB" in _faults(bundle_folder)["sizes"]
    assert package(PackageConfig(model=bundle_folder)).passed
    path = bundle_folder / "large_files.yml"
    listed = yaml.safe_load(path.read_text())["large_files"]
    assert [one["path"] for one in listed] == ["models/model.pt"]
    path.write_text(path.read_text().replace("url: ''", "url: https://example.org/model.pt\n  note: by hand"))
    assert package(PackageConfig(model=bundle_folder, zip=tmp_path / "model.zip")).passed
    assert "https://example.org/model.pt" in path.read_text()


def test_a_bundle_of_an_earlier_version_is_completed(bundle_folder: Path) -> None:
    """Configs and metadata that were not written then are added, and nothing that is there changes."""
    for name in ("train", "evaluate", "multi_gpu_train", "multi_gpu_evaluate"):
        (bundle_folder / "configs" / f"{name}.json").unlink()
    (bundle_folder / "docs" / "data_license.txt").unlink()

    def age(metadata: dict[str, Any]) -> None:
        for key in ("data_source", "references", "eval_metrics"):
            del metadata[key]
        metadata["task"] = "segmentation"

    _edit(bundle_folder / "configs" / "metadata.json", age)
    assert package(PackageConfig(model=bundle_folder)).passed
    assert json.loads((bundle_folder / "configs" / "metadata.json").read_text())["task"] == "segmentation"


def test_a_recipe_of_a_stranger_names_nothing_foreign(bundle_folder: Path) -> None:
    """A config that is made from a bundle's own recipe passes the same check of targets as any other."""

    def spoil(metadata: dict[str, Any]) -> None:
        metadata["unetpipe"]["recipe"]["optimizer"] = {"_target_": "os.system", "command": "true"}

    _edit(bundle_folder / "configs" / "metadata.json", spoil)
    (bundle_folder / "configs" / "train.json").unlink()
    assert not package(PackageConfig(model=bundle_folder)).passed
    assert "train.json: os.system" in _faults(bundle_folder)["targets"]
