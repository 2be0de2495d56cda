"""A network that an extension registers is in its bundle as TorchScript, which is what runs, here and elsewhere."""

import json
import shutil
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unetpipe import components
from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.verify import verify_bundle
from unetpipe.bundle.write import write_bundle
from unetpipe.config.info import InfoConfig
from unetpipe.config.package import PackageConfig
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.errors import BundleError
from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing
from unetpipe.networks.build import build_network
from unetpipe.networks.torchscript import to_torchscript
from unetpipe.stages.info import info
from unetpipe.stages.package import pack, package

PATCH = (16, 16, 16)


class _Plain(nn.Module):
    """Two convolutions."""

    def __init__(self, in_channels: int, out_channels: int, width: int = 6) -> None:
        super().__init__()
        self.body = nn.Conv3d(in_channels, width, 3, padding=1)
        self.norm = nn.InstanceNorm3d(width, affine=True)
        self.head = nn.Conv3d(width, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.norm(self.body(image))))
        return logits


class _Traced(_Plain):
    """What TorchScript's compiler does not know: arguments of any number."""

    def forward(self, *images: Tensor) -> Tensor:
        return super().forward(images[0])


class _Moody(_Plain):
    """What depends on the size of a batch, which a recording takes for a constant."""

    def forward(self, *images: Tensor) -> Tensor:
        return super().forward(images[0]) * len(images[0])


class _Broken(_Plain):
    """What can neither be compiled nor recorded."""

    def forward(self, *images: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            raise RuntimeError("not while it is recorded")
        return super().forward(images[0])


@pytest.fixture(autouse=True)
def extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the networks, for as long as a test does not take that back."""
    known: dict[Any, Any] = dict(components._REGISTERED)
    monkeypatch.setattr(components, "_REGISTERED", known)
    for name, kind in (("plain", _Plain), ("traced", _Traced), ("moody", _Moody)):
        components.register("network", f"test_{name}")(kind)


def without_extension() -> None:
    for name in ("plain", "traced", "moody"):
        components._REGISTERED.pop(("network", f"test_{name}"))


@pytest.fixture(params=[("plain", 3), ("traced", 2), ("plain", 1)], ids=str)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bundle with random weights: three classes, two, and two by a single output."""
    name, outputs = request.param
    classes = max(2, outputs)
    spec = ModelSpec(
        spatial_dims=3,
        channels=("CT",),
        labels=tuple(LabelClass(name=f"class {n}", value=n) for n in range(classes)),
        preprocessing=Preprocessing(
            spacing_mm=(1.0, 1.0, 1.0),
            interpolation=("cubic",) * 3,
            normalization=(ChannelNormalization(scheme="zscore"),),
        ),
        patch_size=PATCH,
        mirror_axes=(0, 1, 2),
    )
    definition = {"_target_": f"test_{name}", "in_channels": 1, "out_channels": outputs}
    torch.manual_seed(0)
    network = build_network(definition).eval()
    if outputs == 1:  # untrained, it may say background everywhere: let it for half of the voxels
        with torch.no_grad():
            network.head.bias -= network(torch.randn(1, 1, *PATCH))[:, 1].median()  # type: ignore[union-attr,operator]
    write_bundle(tmp_path / "model", spec, definition, network.state_dict())
    return tmp_path / "model"


def test_the_bundle_passes_its_checks_and_says_what_runs(folder: Path) -> None:
    """`network_def` is TorchScript, with nothing of the extension in it; the card says so."""
    without_extension()
    assert [check.message for check in verify_bundle(folder) if not check.passed] == []
    config = json.loads((folder / "configs" / "inference.json").read_text())
    assert config["network_def"]["_target_"] == "torch.jit.load"
    assert "`models/model.ts` is what runs" in (folder / "docs" / "README.md").read_text()
    assert info(InfoConfig(path=folder)).network.startswith("test_")  # type: ignore[union-attr]


def test_labels_are_the_same_without_the_extension(folder: Path, tmp_path: Path) -> None:
    """From the folder or a zip of it, on the network's grid, and equal to what its Python code says."""
    image = np.random.default_rng(0).normal(size=(20, 18, 17)).astype(np.float32)
    network = build_network(read_bundle(folder).network_def).eval()
    network.load_state_dict(read_bundle(folder).state_dict())
    window = torch.randn(2, 1, *PATCH)
    with torch.no_grad():
        assert torch.allclose(read_bundle(folder).network()(window), network(window), atol=1e-5)
    with_extension = Predictor(folder, device="cpu", precision="fp32").predict(image, np.eye(4))
    without_extension()
    result = package(PackageConfig(model=folder, zip=tmp_path / "model.zip", torchscript=True))
    assert result.passed
    assert result.torchscript == folder / "models" / "model.ts"
    for model in (folder, tmp_path / "model.zip"):
        labels = Predictor(model, device="cpu", precision="fp32").predict(image, np.eye(4))
        assert np.array_equal(labels, with_extension)
    assert len(np.unique(with_extension)) > 1
    half = Predictor(folder, device="cpu", precision="bf16").predict(image, np.eye(4))
    assert float((half == with_extension).mean()) > 0.95


def test_monai_alone_gives_the_same_labels(folder: Path, tmp_path: Path) -> None:
    """`python -m monai.bundle run` loads the TorchScript and gives it the weights."""
    image = np.random.default_rng(0).normal(100, 20, (20, 18, 17)).astype(np.float32)
    (tmp_path / "images").mkdir()
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "images" / "scan.nii.gz")
    ours = Predictor(folder, device="cpu", precision="fp32").predict(image, np.eye(4))
    without_extension()
    monai.bundle.run(
        config_file=str(folder / "configs" / "inference.json"),
        bundle_root=str(folder),
        dataset_dir=str(tmp_path / "images"),
        output_dir=str(tmp_path / "out"),
        device="$torch.device('cpu')",
    )
    theirs = np.asarray(nib.load(tmp_path / "out" / "scan.nii.gz").dataobj)  # type: ignore[attr-defined]
    assert float((theirs == ours).mean()) > 0.999


def test_scripts_that_do_not_belong_to_the_weights_are_refused(folder: Path) -> None:
    """A script that is missing, damaged or another network's is one line."""
    script = folder / "models" / "model.ts"
    kept = script.read_bytes()
    script.write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"model\.ts is damaged"):
        read_bundle(folder).network()
    torch.jit.save(torch.jit.script(nn.Conv3d(1, 2, 1)), str(script))
    with pytest.raises(BundleError, match="weights do not fit the network"):
        read_bundle(folder).network()
    script.unlink()
    with pytest.raises(BundleError, match=r"model\.ts is missing"):
        read_bundle(folder)
    script.write_bytes(kept)
    pack(folder, folder.parent / "again.zip")
    shutil.rmtree(folder)
    read_bundle(folder.parent / "again.zip").network()


@pytest.mark.parametrize(
    ("kind", "message"),
    [(_Moody, "_Moody exported to TorchScript gives logits that are"), (_Broken, "cannot be exported to TorchScript")],
)
def test_what_torchscript_cannot_hold_is_refused(kind: type[nn.Module], message: str) -> None:
    """In one line, by what it answers to a larger batch if nothing else shows it."""
    with pytest.raises(BundleError, match=message) as error:
        to_torchscript(kind(1, 2).eval(), torch.randn(1, 1, *PATCH))
    assert "\n" not in str(error.value)
