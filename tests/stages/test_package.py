"""A bundle is packed so that anybody can unpack, check and run it."""

import hashlib
import json
import math
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.verify import verify_bundle
from unetpipe.bundle.write import write_weights
from unetpipe.config.package import PackageConfig
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.errors import BundleError
from unetpipe.stages.package import _work_folder, package


def test_zip_holds_the_bundle_only(bundle_folder: Path, tmp_path: Path) -> None:
    """Unpacked, the zip is a bundle that passes; checkpoints and logs beside it stay at home."""
    (bundle_folder / "checkpoint.pt").write_bytes(b"optimiser")
    result = package(PackageConfig(model=bundle_folder, zip=tmp_path / "organs.zip"))
    assert result.passed
    with zipfile.ZipFile(tmp_path / "organs.zip") as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"organs"}
        assert not any("checkpoint" in name for name in archive.namelist())
        archive.extractall(tmp_path / "unpacked")
    assert all(check.passed for check in verify_bundle(tmp_path / "unpacked" / "organs"))


def test_zip_is_reproducible(bundle_folder: Path, tmp_path: Path) -> None:
    """The same files give the same bytes, whatever their time stamps."""
    digests = set()
    for folder in ("first", "second"):
        target = tmp_path / folder / "organs.zip"
        (bundle_folder / "LICENSE").touch()
        package(PackageConfig(model=bundle_folder, zip=target))
        digests.add(hashlib.sha256(target.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_faulty_bundle_is_not_packed(bundle_folder: Path, tmp_path: Path) -> None:
    """Where a check fails the result says so and no zip is written."""
    (bundle_folder / "LICENSE").unlink()
    result = package(PackageConfig(model=bundle_folder, zip=tmp_path / "organs.zip", torchscript=True))
    assert not result.passed
    assert not (tmp_path / "organs.zip").exists()
    assert not (bundle_folder / "models" / "model.ts").exists()


def test_torchscript_answers_as_the_network_does(bundle_folder: Path) -> None:
    """model.ts, loaded without unetpipe, gives the network's logits, and carries the metadata."""
    path = package(PackageConfig(model=bundle_folder, torchscript=True)).torchscript
    assert path is not None
    extra = {"metadata.json": ""}
    scripted = torch.jit.load(path, _extra_files=extra)
    network = read_bundle(bundle_folder).network()
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(scripted(image), network(image), atol=1e-4, rtol=1e-4)
    assert json.loads(extra["metadata.json"])["task"] == "Segmentation of liver, spleen in CT"
    assert {file.name for file in path.parent.iterdir()} == {
        "model.ts",
        "model.pt",
        "preprocessing.json",
        "exports.json",
    }


def test_torchscript_of_earlier_weights_is_exported_anew(bundle_folder: Path) -> None:
    """A model that was trained on keeps its model.ts, of the weights that it has now, without being asked."""
    first = package(PackageConfig(model=bundle_folder, torchscript=True)).exports
    weights = {key: value + 0.01 for key, value in read_bundle(bundle_folder).state_dict().items()}
    write_weights(bundle_folder / "models" / "model.pt", weights)
    result = package(PackageConfig(model=bundle_folder))
    assert result.passed
    assert [one.file for one in result.exports] == ["models/model.ts"]
    assert result.exports[0].weights_sha256 == read_bundle(bundle_folder).sha256 != first[0].weights_sha256
    assert all(check.passed for check in verify_bundle(bundle_folder))


@pytest.mark.parametrize(
    ("model", "out", "expected"),
    [
        ("/lab/work/runs/default/fold_0", None, "/lab/work"),
        ("/lab/work/runs/default", "/elsewhere/liver", "/lab/work"),
        ("/data/liver", None, "/"),
        ("/liver", None, "/"),
        ("/data", "/data/liver", "/"),
    ],
)
def test_the_work_folder_is_looked_for_above_the_model(model: str, out: str | None, expected: str) -> None:
    """A bundle may lie right below the root, as in a container."""
    folds = "all" if out else None
    config = PackageConfig(model=Path(model), out=Path(out) if out else None, folds=folds)
    assert _work_folder(config) == Path(expected)


def test_missing_bundle_is_an_error(tmp_path: Path) -> None:
    """A folder that is not there raises."""
    with pytest.raises(BundleError, match="not a bundle's folder"):
        package(PackageConfig(model=tmp_path / "absent"))


def test_exports_are_compared_on_a_case_of_the_dataset(work: Path, make_bundle: Callable[..., Path]) -> None:
    """A bundle beside its work folder has a real window to be compared on."""
    plan = read_plan(work)
    patch = plan.configurations[plan.default].patch_size
    folder = Path(shutil.copytree(make_bundle(patch=patch), work / "runs" / "default" / "fold_0"))
    result = package(PackageConfig(model=folder, pt2=True))
    assert [check.message for check in result.checks if not check.passed] == []
    (export,) = result.exports
    assert export.window == "a window of a case of its dataset"
    assert export.voxels == math.prod(patch)


def test_long_statements_stay(bundle_folder: Path) -> None:
    """What was said of a model's data and references is carried over whole when something else is said."""
    source, reference = "s" * 350, 'A. "' + "t" * 240 + '" https://doi.org/10.1/x'
    package(PackageConfig(model=bundle_folder, data_source=source, reference=(reference,)))
    package(PackageConfig(model=bundle_folder, authors="B. Author"))
    metadata = json.loads((bundle_folder / "configs" / "metadata.json").read_text())
    assert metadata["data_source"] == source
    assert reference in metadata["references"]
    assert source in (bundle_folder / "docs" / "README.md").read_text()
