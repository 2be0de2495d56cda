"""Bundles are read as data, from a folder or a zip, and what is wrong with one is said in a line."""

import hashlib
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from unetpipe.bundle.read import find_bundles, read_bundle
from unetpipe.errors import BundleError


def zipped(folder: Path, target: Path, root: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, root + str(file.relative_to(folder)))
    return target


def edit(folder: Path, member: str, change: Any) -> None:
    file = folder / member
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("root", [None, "", "some_model/"])
def test_a_folder_and_its_zip_are_the_same_model(bundle_folder: Path, tmp_path: Path, root: str | None) -> None:
    """Spec, definition, hash and weights do not depend on the packing."""
    folder = read_bundle(bundle_folder)
    other = folder if root is None else read_bundle(zipped(bundle_folder, tmp_path / "bundle.zip", root))
    assert (other.name, other.spec, other.network_def) == ("bundle", folder.spec, folder.network_def)
    assert other.sha256 == hashlib.sha256((bundle_folder / "models" / "model.pt").read_bytes()).hexdigest()
    network = other.network()
    assert not network.training
    x = torch.randn(1, 1, 16, 16, 16)
    torch.testing.assert_close(network(x), folder.network()(x))


def test_a_runs_folder_names_all_its_folds(bundle_folder: Path, tmp_path: Path) -> None:
    """fold_0 and fold_1 beside each other are found in order, a copy called otherwise is not; an empty folder is an
    error.
    """
    run = tmp_path / "run"
    for fold in (1, 0):
        (run / f"fold_{fold}").parent.mkdir(exist_ok=True)
        zipfile.ZipFile(zipped(bundle_folder, tmp_path / "x.zip")).extractall(run / f"fold_{fold}")
    (run / "fold_2").mkdir()
    shutil.copytree(run / "fold_0", run / "fold_0_backup")
    assert [path.name for path in find_bundles(run)] == ["fold_0", "fold_1"]
    with pytest.raises(BundleError, match="no model in it"):
        find_bundles(run / "fold_2")
    with pytest.raises(BundleError, match="not found"):
        find_bundles(tmp_path / "nowhere")


@pytest.mark.parametrize("member", ["../evil.txt", "/etc/evil", "a/../../b", "..\\evil"])
def test_a_zip_that_points_outside_is_refused(bundle_folder: Path, tmp_path: Path, member: str) -> None:
    """A traversal in any member's name condemns the archive."""
    path = zipped(bundle_folder, tmp_path / "bundle.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, "x")
    with pytest.raises(BundleError, match="outside"):
        read_bundle(path)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "models" / "model.pt").unlink(), "model.pt is missing"),
        (lambda f: (f / "configs" / "metadata.json").write_text("{"), "not JSON"),
        (lambda f: (f / "configs" / "metadata.json").write_text("[]"), "must be an object"),
        (lambda f: edit(f, "configs/metadata.json", lambda c: c.pop("unetpipe")), "not made by unetpipe"),
        (lambda f: edit(f, "configs/metadata.json", lambda c: c["unetpipe"].pop("labels")), "unetpipe.labels"),
        (lambda f: edit(f, "configs/inference.json", lambda c: c.pop("network_def")), "no network_def"),
        (lambda f: (f / "models" / "model.pt").write_bytes(b"junk"), "damaged or holds more than tensors"),
        (
            lambda f: (f / "models" / "model.pt").write_bytes(pickle.dumps(_Evil())),
            "damaged or holds more than tensors",
        ),
        (lambda f: torch.save(_Evil(), f / "models" / "model.pt"), "damaged or holds more than tensors"),
        (lambda f: torch.save({"a": 1}, f / "models" / "model.pt"), "dictionary of tensors"),
        (lambda f: torch.save({"a": torch.zeros(1)}, f / "models" / "model.pt"), "do not fit the network"),
        (
            lambda f: edit(f, "configs/inference.json", lambda c: c["network_def"].update(_target_="os.system")),
            "there is no network .os.system.",
        ),
    ],
)
def test_what_is_wrong_is_said(
    bundle_folder: Path, spoil: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every damage gives a BundleError with its reason, and nothing in the bundle runs."""
    spoil(bundle_folder)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle_folder).network()
    assert "executed" not in capsys.readouterr().out


def test_files_that_are_no_zip_are_refused(tmp_path: Path) -> None:
    """A file that is not a zip, or a zip with two bundles, is no model."""
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(BundleError, match="not a readable zip"):
        read_bundle(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("x/configs/metadata.json", "{}")
        archive.writestr("y/configs/metadata.json", "{}")
    with pytest.raises(BundleError, match="found 2"):
        read_bundle(tmp_path / "b.zip")
