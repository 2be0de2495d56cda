"""A bundle may come from anybody: nothing in it runs, nothing is written, and one line says what is wrong."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.verify import verify_bundle
from unetpipe.errors import BundleError

Bounded = Callable[[], AbstractContextManager[None]]


Attack = Callable[[Path], Path | None]


def _json(member: str, *keys: str | int, value: Any) -> Attack:
    """Put a value in place of another, deep in a config."""

    def attack(folder: Path) -> None:
        file = folder / "configs" / member
        content = json.loads(file.read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        file.write_text(json.dumps(content))

    return attack


def _spec(*keys: str | int, value: Any) -> Attack:
    return _json("metadata.json", "unetpipe", *keys, value=value)


def _evidence(**changes: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(("training_cases", "held_out_cases", "epochs", "iterations", "batch_size"), 1)
    texts = {"optimizer": "sgd", "loss": "dice_ce", "device": "cpu", "unseen": True}
    measured = {"seconds": 1, "seconds_per_case": 1, "dice": {"liver": [0.5]}, "patients": [0]}
    return {"folds": [{**numbers, **texts, **measured, **changes}]}


def _network(**changes: Any) -> Attack:
    def attack(folder: Path) -> None:
        file = folder / "configs" / "inference.json"
        content = json.loads(file.read_text())
        content["network_def"].update(changes)
        file.write_text(json.dumps(content))

    return attack


def _text(member: str, text: str) -> Attack:
    def attack(folder: Path) -> None:
        (folder / member).write_text(text)

    return attack


def _weights(value: Any) -> Attack:
    def attack(folder: Path) -> None:
        torch.save(value(folder), folder / "models" / "model.pt")

    return attack


class _Runs:
    """What a pickle would run: it leaves a file behind."""

    def __init__(self, folder: Path) -> None:
        self.command = f"touch {folder}/executed"

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (self.command,))


def _pickled(folder: Path) -> None:
    (folder / "models" / "model.pt").write_bytes(pickle.dumps(_Runs(folder)))


def _hidden_in_weights(folder: Path) -> dict[str, Any]:
    return {**torch.load(folder / "models" / "model.pt", weights_only=True), "more": _Runs(folder)}


def _deflated_weights(folder: Path) -> None:
    """PyTorch reads compressed tensors: a gigabyte of zeros in a megabyte."""
    file = folder / "models" / "model.pt"
    content = file.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, b"\0" * 10**8 if name.endswith("/data/0") else source.read(name))


def _zipped(change: Callable[[zipfile.ZipFile, Path], None]) -> Attack:
    def attack(folder: Path) -> Path:
        target = folder.parent / "hostile.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            change(archive, folder)
        return target

    return attack


def _all_but(archive: zipfile.ZipFile, folder: Path, left_out: str = "") -> None:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != left_out:
            archive.write(file, f"model/{file.relative_to(folder)}")


def _with(name: str, content: bytes) -> Attack:
    def change(archive: zipfile.ZipFile, folder: Path) -> None:
        _all_but(archive, folder)
        archive.writestr(name, content)

    return _zipped(change)


def _bomb(member: str, megabytes: int) -> Attack:
    """A member of zeros, which deflates to a thousandth."""

    def change(archive: zipfile.ZipFile, folder: Path) -> None:
        _all_but(archive, folder, Path(member).name)
        with archive.open(f"model/{member}", "w", force_zip64=True) as file:
            for _ in range(megabytes):
                file.write(b"\0" * 2**20)

    return _zipped(change)


def _script(program: Callable[[Path], nn.Module]) -> Attack:
    """A bundle whose network is TorchScript."""

    def attack(folder: Path) -> None:
        _spec("registered_network", value={"_target_": "theirs", "out_channels": 3})(folder)
        torch.jit.save(torch.jit.script(program(folder)), str(folder / "models" / "model.ts"))

    return attack


class _Saves(nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, image: Tensor) -> Tensor:
        torch.save(image, self.path)
        return image


class _Maps(_Saves):
    def forward(self, image: Tensor) -> Tensor:
        return image + torch.from_file(self.path, True, 16)


class _RunsAsItLoads(_Saves):
    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]


NESTED = '{"a": ' * 100_000
DEEP: Any = "x"
for _ in range(400):
    DEEP = {"a": DEEP}

ATTACKS: dict[str, tuple[Attack, str]] = {
    "spacing 0": (_spec("preprocessing", "spacing_mm", value=[1, 0, 1]), "spacing_mm"),
    "spacing below 0": (_spec("preprocessing", "spacing_mm", value=[1, -1, 1]), "spacing_mm"),
    "spacing NaN": (_spec("preprocessing", "spacing_mm", value=[1, float("nan"), 1]), "spacing_mm"),
    "spacing infinite": (_spec("preprocessing", "spacing_mm", value=[1, float("inf"), 1]), "spacing_mm"),
    "spacing tiny": (_spec("preprocessing", "spacing_mm", value=[1e-300, 1, 1]), "spacing_mm"),
    "spacing of two axes": (_spec("preprocessing", "spacing_mm", value=[1, 1]), "spacing_mm"),
    "one interpolation": (_spec("preprocessing", "interpolation", value=["cubic"]), "interpolation"),
    "no normalization": (_spec("preprocessing", "normalization", value=[]), "normalization"),
    "std 0": (
        _spec("preprocessing", "normalization", value=[{"scheme": "ct", "mean": 0, "std": 0, "lower": 0, "upper": 1}]),
        "positive std",
    ),
    "bounds reversed": (
        _spec("preprocessing", "normalization", value=[{"scheme": "ct", "mean": 0, "std": 1, "lower": 2, "upper": 1}]),
        "lower <= upper",
    ),
    "patch below 0": (_spec("patch_size", value=[-16, 16, 16]), "patch_size"),
    "patch 0": (_spec("patch_size", value=[0, 16, 16]), "patch_size"),
    "patch huge": (_spec("patch_size", value=[10**6] * 3), "patch_size"),
    "patch beyond integers": (_spec("patch_size", value=[10**30, 16, 16]), "patch_size"),
    "patch of four axes": (_spec("patch_size", value=[16] * 4), "patch_size"),
    "five dimensions": (_spec("spatial_dims", value=5), "spatial_dims"),
    "axis 7": (_spec("mirror_axes", value=[7]), "mirror_axes"),
    "axis -1": (_spec("mirror_axes", value=[-1]), "mirror_axes"),
    "label 10^12": (_spec("labels", 1, "value", value=10**12), "32 bits"),
    "one value twice": (_spec("labels", 1, "value", value=0), "values differ"),
    "no labels": (_spec("labels", value=[]), "labels"),
    "a million labels": (_spec("labels", value=[{"name": f"{n}", "value": n} for n in range(10**5)]), "labels"),
    "class leads up": (_spec("labels", 1, "name", value="../../etc/passwd"), "name of a class"),
    "class is a path": (_spec("labels", 1, "name", value="/etc/passwd"), "name of a class"),
    "class is a Windows path": (_spec("labels", 1, "name", value="C:\\x"), "name of a class"),
    "class of control characters": (_spec("labels", 1, "name", value="a\x1b[2J\nb"), "name of a class"),
    "class of a megabyte": (_spec("labels", 1, "name", value="x" * 10**6), "name of a class"),
    "region of no label": (_spec("regions", value=[{"name": "r", "values": [9], "written": 1}]), "regions"),
    "postprocessing of no class": (_spec("postprocessing", value=["nobody"]), "postprocessing"),
    "channel is a path": (_spec("channels", value=["../x"]), "channels"),
    "no channels": (_spec("channels", value=[]), "channels"),
    "one fold twice": (_spec("folds", value=[0, 0]), "folds"),
    "a thousand folds": (_spec("folds", value=list(range(1000))), "folds"),
    "fold below 0": (_spec("folds", value=[-1]), "folds"),
    "fold without weights": (_spec("folds", value=[0]), "model_fold0.pt is missing"),
    "Dice above 1": (_spec("evidence", value=_evidence(dice={"liver": [2.0]})), "evidence"),
    "Dice of too few cases": (_spec("evidence", value=_evidence(dice={"liver": [0.5]}, patients=[1, 2])), "evidence"),
    "endless training": (_spec("evidence", value=_evidence(seconds=float("inf"))), "evidence"),
    "tracking run is a path": (_spec("tracking_run", value="../../runs"), "tracking_run"),
    "domain NaN": (
        _spec(
            "training_domain",
            value={"spacing_mm": [[float("nan"), 1]] * 3, "extent_mm": [[1, 1]] * 3, "intensity": [None]},
        ),
        "training_domain",
    ),
    "spec is a list": (_json("metadata.json", "unetpipe", value=[1]), "unetpipe"),
    "unknown key over lines": (_spec("a\nb\x1b[2J", value=1), "unetpipe"),
    "metadata nested": (_text("configs/metadata.json", NESTED), "not JSON"),
    "metadata nested less": (_json("metadata.json", "more", value=DEEP), "nested deeper"),
    "a number of a million digits": (_text("configs/metadata.json", f'{{"a": {"9" * 10**6}}}'), "not JSON"),
    "no UTF-8": (lambda f: (f / "configs" / "inference.json").write_bytes(b"\xff\xfe\xfa") and None, "not JSON"),
    "network is a program": (_network(_target_="os.system", command="true"), "no network"),
    "network is a module's import": (_network(_target_="monai.networks.nets.torch.hub.load"), "No module named"),
    "network is no text": (_network(_target_=["x"]), "needs a _target_"),
    "network evaluates": (_network(in_channels="$__import__('os').system('true')"), "no expressions"),
    "network refers": (_network(in_channels="@network_def"), "no expressions"),
    "network of a million channels": (_network(filters=[10**6] * 3), "MiB"),
    "network of no channels": (_network(filters=[-1] * 3), "cannot be built"),
    "network of texts": (_network(kernel_size="abc", strides={}), "cannot be built"),
    "network nested": (_json("inference.json", "network_def", value=DEEP), "nested deeper"),
    "layers are no list": (
        _json("inference.json", "network_def", value={"_target_": "torch.nn.Sequential.extend", "sequential": 5}),
        "list of layers",
    ),
    "a layer is a number": (
        _json("inference.json", "network_def", value={"_target_": "torch.nn.Sequential.extend", "sequential": [5]}),
        "cannot be built",
    ),
    "a layer of a billion channels": (
        _json(
            "inference.json",
            "network_def",
            value={
                "_target_": "torch.nn.Sequential.extend",
                "sequential": [
                    {"_target_": "torch.nn.Conv3d", "in_channels": 10**5, "out_channels": 10**5, "kernel_size": 9}
                ],
            },
        ),
        "MiB",
    ),
    "weights are a pickle": (_pickled, "damaged or holds more than tensors"),
    "weights hold a program": (_weights(_hidden_in_weights), "damaged or holds more than tensors"),
    "weights are a list": (_weights(lambda _: [torch.zeros(1)]), "dictionary of tensors"),
    "weights without memory": (_weights(lambda _: {"a": torch.empty(10**6, 10**6, device="meta")}), "dictionary of"),
    "weights that repeat one number": (_weights(lambda _: {"a": torch.zeros(1).expand(10**6, 10**6)}), "do not fit"),
    "weights that are sparse": (_weights(lambda _: {"a": torch.zeros(9).to_sparse()}), "dictionary of tensors"),
    "weights that unpack": (_deflated_weights, "would unpack to"),
    "weights are cut": (lambda f: os.truncate(f / "models" / "model.pt", 1000), "damaged"),
    "weights are a device": (lambda f: _linked(f / "models" / "model.pt", "/dev/zero"), "missing"),
    "weights of 300 MB of zeros in a zip": (_bomb("models/model.pt", 300), "more than 20 times as many"),
    "metadata of 100 MB in a zip": (_bomb("configs/metadata.json", 100), "104,857,600 bytes, more than the 16,777,216"),
    "a member leads up": (_with("../evil", b"x"), "outside"),
    "a member is absolute": (_with("/tmp/evil", b"x"), "outside"),
    "two bundles": (_with("other/configs/metadata.json", b"{}"), "found 2"),
    "a member twice": (_with("model/models/model.pt", b"x"), "same name"),
    "no zip": (lambda f: _file(f.parent / "hostile.zip", b"PK\x03\x04 nothing"), "not a readable zip"),
    "a program that saves": (_script(lambda f: _Saves(f"{f}/executed")), "may do more than compute"),
    "a program that maps a file": (_script(lambda f: _Maps(f"{f}/executed")), "may do more than compute"),
    "a program that runs as it loads": (_script(lambda f: _RunsAsItLoads(str(f))), "may do more than compute"),
}


def _linked(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")  # of zipfile, for a member that is there twice
@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_bundles_are_refused(
    bundle_folder: Path, attack: str, bounded: Bounded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each is one printable line within a few seconds; nothing in it runs, and nothing is written."""
    change, message = ATTACKS[attack]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = change(bundle_folder) or bundle_folder
    before = sorted(tmp_path.rglob("*"))
    with bounded(), pytest.raises(BundleError) as caught:
        read_bundle(path).network()
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["prostate/uterus", "left kidney (3)", "Läsion", "non-enhancing tumour"])
def test_names_that_datasets_use_are_taken(bundle_folder: Path, name: str) -> None:
    """A separator within a name, as the AMOS dataset has it, leads nowhere."""
    _spec("labels", 1, "name", value=name)(bundle_folder)
    assert read_bundle(bundle_folder).spec.labels[1].name == name


_MULTIPLYING = "\n".join(["a0: &a0 1", *(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]" for n in range(1, 9))])

CHECKED: dict[str, tuple[Attack, str]] = {
    "formats are a list": (_json("metadata.json", "network_data_format", value=[]), "metadata"),
    "inputs are a text": (_json("metadata.json", "network_data_format", "inputs", value="x"), "metadata"),
    "changelog is a number": (_json("metadata.json", "changelog", value=5), "metadata"),
    "version is a list": (_json("metadata.json", "version", value=[]), "metadata"),
    "shape is huge": (
        _json("metadata.json", "network_data_format", "inputs", "image", "spatial_shape", value=[10**6] * 3),
        "weights",
    ),
    "shape is a number": (
        _json("metadata.json", "network_data_format", "inputs", "image", "spatial_shape", value=5),
        "weights",
    ),
    "YAML names a program": (_text("configs/train.yaml", "a:\n  _target_: os.system\n"), "targets"),
    "YAML builds an object": (_text("configs/train.yml", "!!python/object/apply:os.system ['true']"), "targets"),
    "YAML multiplies itself": (_text("configs/train.yaml", _MULTIPLYING), "targets"),
    "YAML nested": (_text("configs/train.yaml", "[" * 5000), "targets"),
    "an expression imports": (_json("inference.json", "more", value="$__import__('os').system('true')"), "targets"),
    "an import of a module": (_json("inference.json", "imports", 0, value="$import subprocess"), "targets"),
    "an expression's attributes": (_json("inference.json", "more", value="$().__class__.__bases__"), "targets"),
    "an expression opens a file": (_json("inference.json", "more", value="$open('x', 'w')"), "targets"),
    "a macro leads elsewhere": (_json("inference.json", "more", value="%/etc/passwd::x"), "targets"),
    "a file that nobody knows": (lambda f: _file(f / "models" / "evil.pkl", b"x") and None, "files"),
    "a link to a file elsewhere": (lambda f: (f / "docs" / "x.md").symlink_to("/etc/hostname"), "files"),
    "a script of another network": (
        lambda f: torch.jit.save(torch.jit.script(nn.Conv3d(1, 3, 1)), str(f / "models" / "model.ts")),
        "exports",
    ),
    "a script that saves": (
        lambda f: torch.jit.save(torch.jit.script(_Saves(f"{f}/executed")), str(f / "models" / "model.ts")),
        "exports",
    ),
}


@pytest.mark.parametrize("attack", CHECKED)
def test_hostile_bundles_do_not_pass_their_checks(bundle_folder: Path, attack: str, bounded: Bounded) -> None:
    """The check that is meant to find a fault finds it, and says it in one line."""
    change, name = CHECKED[attack]
    change(bundle_folder)
    before = sorted(bundle_folder.rglob("*"))
    with bounded():
        failed = {check.name: check.message for check in verify_bundle(bundle_folder) if not check.passed}
    assert name in failed
    assert all(message.isprintable() for message in failed.values())
    assert sorted(bundle_folder.rglob("*")) == before
