"""A bundle's network in other formats gives what torch gives, and what goes with it is enough to use it."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from unetpipe.bundle import exports
from unetpipe.bundle.configs.inference import sliding_window
from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.preprocessing_document import preprocessing_document
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.verify import verify_bundle
from unetpipe.bundle.write import write_bundle, write_weights
from unetpipe.config.package import PackageConfig
from unetpipe.errors import BundleError, UnetpipeError
from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing
from unetpipe.inference.sliding_window import Blending
from unetpipe.stages.package import package

ROOT = Path(__file__).parents[2]
needs_onnx = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
FORMATS = [
    pytest.param("onnx", "model.onnx", marks=needs_onnx),
    ("pt2", "model.pt2"),
    pytest.param("openvino", "model.xml", marks=needs_openvino),
    ("torchscript", "model.ts"),
]


def _failed(folder: Path) -> dict[str, str]:
    return {check.name: check.message for check in verify_bundle(folder) if not check.passed}


def _listed(folder: Path) -> list[str]:
    """The exports of the record, which are those of the card."""
    path = folder / "models" / "exports.json"
    files = [one["file"] for one in json.loads(path.read_text())["exports"]] if path.is_file() else []
    card = (folder / "docs" / "README.md").read_text()
    assert [line.split("`")[1] for line in card.splitlines() if line.startswith("| `models/")] == files
    return files


def _without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise UnetpipeError("OpenVINO is not installed")

    monkeypatch.setattr("unetpipe.inference.engines.openvino._start", fail)


def _unpacked(path: Path) -> bytes:
    """All that a file holds; of a zip all that is packed in it."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(map(archive.read, archive.namelist()))


@pytest.mark.parametrize(("name", "file"), FORMATS)
def test_an_export_is_compared_and_described(bundle_folder: Path, name: str, file: str) -> None:
    """The difference is in the result and the card, no path is in the file, and the bundle passes its checks."""
    (export,) = package(PackageConfig.model_validate({"model": bundle_folder, name: True})).exports
    assert export.file == f"models/{file}"
    assert 0 <= export.difference < 1e-3
    assert export.differing_voxels == 0
    assert export.voxels == 16**3
    content = _unpacked(bundle_folder / export.file)
    assert not any(text.encode() in content for text in (str(ROOT), sys.prefix, str(bundle_folder)))
    assert f"| `models/{file}` |" in (bundle_folder / "docs" / "README.md").read_text()
    assert _failed(bundle_folder) == {}


def test_the_description_follows_the_model(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    """Windows are those of the model's convention, and what changed since the export, or is damaged, is in it again."""
    folder = make_bundle()
    assert package(PackageConfig(model=folder, pt2=True)).passed
    path = folder / "models" / "preprocessing.json"
    assert "p // 2" not in path.read_text()
    bundle = read_bundle(folder)
    spec = bundle.spec.model_copy(update={"blending": Blending(convention="nnunet")})
    write_bundle(folder, spec, bundle.network_def, bundle.state_dict())
    assert package(PackageConfig(model=folder, zip=tmp_path / "model.zip")).passed
    assert "p // 2" in path.read_text()
    unweighted = spec.model_copy(update={"blending": Blending(sigma_scale=None)})
    network = preprocessing_document(unweighted, bundle.network_def)["network"]
    assert (network["sigma"], "Gaussian" in network["words"]) == (None, False)
    assert [sliding_window(one)["mode"] for one in (spec, unweighted)] == ["gaussian", "constant"]
    before = path.stat().st_ino
    assert package(PackageConfig(model=folder)).passed
    assert path.stat().st_ino == before  # what is right is not written
    whole = path.read_bytes()
    for damaged in (whole[:99], b"\xff" + whole):
        path.write_bytes(damaged)
        assert package(PackageConfig(model=folder)).passed
        assert path.read_bytes() == whole


@needs_onnx
def test_exports_of_other_weights_are_not_packed(bundle_folder: Path, tmp_path: Path) -> None:
    """A model trained on, or a file that was changed, does not go out with an earlier export."""
    config = PackageConfig(model=bundle_folder, onnx=True, zip=tmp_path / "model.zip")
    assert package(config).passed
    file = bundle_folder / "models" / "model.onnx"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    assert "was not compared" in _failed(bundle_folder)["exports"]
    file.write_bytes(content)
    weights = {key: value + 0.01 for key, value in read_bundle(bundle_folder).state_dict().items()}
    write_weights(bundle_folder / "models" / "model.pt", weights)
    assert "other weights" in _failed(bundle_folder)["exports"]
    assert not package(config.model_copy(update={"onnx": False})).passed
    assert package(config).passed, "what is exported again is not in the way of its own export"


def test_what_torch_export_cannot_take_is_one_line(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that fails leaves no file."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("unsupported operator\nand a page more")

    monkeypatch.setattr(torch.export, "export", fail)
    with pytest.raises(BundleError, match=r"cannot be exported to pt2: unsupported operator$"):
        package(PackageConfig(model=bundle_folder, pt2=True))
    assert not (bundle_folder / "models" / "model.pt2").exists()


@needs_onnx
@pytest.mark.parametrize("scheme", ["zscore", "zscore_nonzero"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.3, 0.8, 1.1)])
def test_the_example_runs_onnx_alone(
    make_bundle: Callable[..., Path], tmp_path: Path, spacing: tuple[float, ...], scheme: Any
) -> None:
    """numpy, nibabel and onnxruntime with `preprocessing.json` give the labels that `infer` gives; else it refuses."""
    preprocessing = Preprocessing(
        spacing_mm=spacing, interpolation=("cubic",) * 3, normalization=(ChannelNormalization(scheme=scheme),)
    )
    folder = make_bundle(values=(0, 2, 5), preprocessing=preprocessing)
    package(PackageConfig(model=folder, onnx=True))
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 1, 6, 6, 5, generator=generator) * 60 + 300
    image = torch.nn.functional.interpolate(coarse, size=(31, 28, 25), mode="trilinear")[0, 0].numpy()
    image[:3] = image[9:12, 9:12, 9:12] = 0
    affine = np.array([[0, 0, 1.2, -20.0], [-0.9, 0, 0, 30.0], [0, 1.0, 0, 5.0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "scan.nii.gz")  # type: ignore[attr-defined]
    script = ROOT / "docs" / "examples" / "run_onnx.py"
    paths = [folder / "models", tmp_path / "scan.nii.gz", tmp_path / "labels.nii.gz"]
    done = subprocess.run([sys.executable, script, *paths], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = nib.load(tmp_path / "labels.nii.gz")  # type: ignore[attr-defined]
    expected = Predictor(folder, device="cpu", precision="fp32").predict(image, affine)
    assert np.allclose(found.affine, affine)
    assert len(np.unique(expected)) > 1
    assert float((np.asarray(found.dataobj) == expected).mean()) > 0.999
    plain = json.loads((folder / "models" / "preprocessing.json").read_text())
    for side, step, changed in (
        ("before", "normalize", {"channels": [{"scheme": "minmax"}]}),
        ("after", "decide", {"rule": "threshold"}),
    ):
        document = json.loads(json.dumps(plain))
        next(one for one in document[side] if one["step"] == step).update(changed)
        (folder / "models" / "preprocessing.json").write_text(json.dumps(document))
        done = subprocess.run([sys.executable, script, *paths], capture_output=True, text=True, timeout=300)
        assert (done.returncode, "need more than this example does" in done.stderr) == (1, True)
    imported = {line.split()[1] for line in script.read_text().splitlines() if line.startswith(("import", "from"))}
    assert imported == {"json", "sys", "itertools", "pathlib", "nibabel", "numpy", "onnxruntime"}


def test_the_document_says_what_to_do(make_bundle: Callable[..., Path]) -> None:
    """Every number that preprocessing needs is in it."""
    folder = make_bundle(spacing_mm=(1.3, 0.8, 1.1), values=(0, 2, 5))
    package(PackageConfig(model=folder, torchscript=True))
    todo = json.loads((folder / "models" / "preprocessing.json").read_text())
    assert [step["step"] for step in todo["before"]] == ["orient", "crop", "normalize", "resample"]
    assert todo["before"][-1]["spacing_mm"] == [1.3, 0.8, 1.1]
    assert todo["network"]["patch"] == [16, 16, 16]
    assert [step["step"] for step in todo["after"]] == ["resample", "decide", "restore", "values"]
    assert [label["value"] for label in todo["after"][-1]["labels"]] == [0, 2, 5]


def test_what_was_compared_stays_where_a_later_format_fails(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing library does not leave an export of another format without its record."""
    _without_openvino(monkeypatch)
    with pytest.raises(UnetpipeError, match="OpenVINO is not installed"):
        package(PackageConfig(model=bundle_folder, pt2=True, openvino=True))
    assert _listed(bundle_folder) == ["models/model.pt2"]
    assert not (bundle_folder / ".exports").exists()
    assert package(PackageConfig(model=bundle_folder)).passed


@pytest.mark.parametrize("left", ["model.pt2", "model.bin"])
def test_a_file_that_was_never_compared_is_exported_again(
    bundle_folder: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed export left fails the checks until its format is asked for, and is removed then."""
    _without_openvino(monkeypatch)
    formats = {"pt2": left == "model.pt2", "openvino": left == "model.bin"}
    (bundle_folder / "models" / left).write_bytes(b"half")
    (bundle_folder / ".exports" / "models").mkdir(parents=True)
    assert not package(PackageConfig(model=bundle_folder)).passed
    assert "was not compared" in _failed(bundle_folder)["exports"]
    if left == "model.pt2":
        assert package(PackageConfig.model_validate({"model": bundle_folder, **formats})).passed
        assert _listed(bundle_folder) == ["models/model.pt2"]
        (bundle_folder / "models" / left).write_bytes(b"changed")
        assert package(PackageConfig.model_validate({"model": bundle_folder, **formats})).passed
    else:
        with pytest.raises(UnetpipeError, match="OpenVINO is not installed"):
            package(PackageConfig.model_validate({"model": bundle_folder, **formats}))
    assert _failed(bundle_folder) == {}
    assert not (bundle_folder / ".exports").exists()


def test_an_earlier_export_stays_where_a_new_one_fails(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be exported again, or gives other logits when it is, is there as before."""
    config = PackageConfig(model=bundle_folder, pt2=True)
    assert package(config).passed
    file = bundle_folder / "models" / "model.pt2"
    before = file.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("unsupported operator")

    with monkeypatch.context() as patch:
        patch.setattr(torch.export, "export", fail)
        with pytest.raises(BundleError, match="unsupported operator"):
            package(config)
    export = torch.export.export
    with monkeypatch.context() as patch:
        patch.setattr(torch.export, "export", lambda _, *args, **more: export(torch.nn.Identity(), *args, **more))
        with pytest.raises(BundleError, match="gives logits that are"):
            package(config)
    assert file.read_bytes() == before
    assert _listed(bundle_folder) == ["models/model.pt2"]
    assert _failed(bundle_folder) == {}


def test_files_that_are_gone_are_not_listed(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record and card forget an export that somebody deletes, or that is removed and fails to be exported anew."""
    assert package(PackageConfig(model=bundle_folder, pt2=True, torchscript=True)).passed
    (bundle_folder / "models" / "model.pt2").unlink()
    assert package(PackageConfig(model=bundle_folder)).passed
    assert _listed(bundle_folder) == ["models/model.ts"]
    weights = {key: value + 0.01 for key, value in read_bundle(bundle_folder).state_dict().items()}
    write_weights(bundle_folder / "models" / "model.pt", weights)
    monkeypatch.setattr(torch.jit, "script", lambda *_: 1 / 0)
    monkeypatch.setattr(torch.jit, "trace", lambda *_, **__: 1 / 0)
    with pytest.raises(BundleError, match="cannot be exported to TorchScript"):
        package(PackageConfig(model=bundle_folder))
    assert _listed(bundle_folder) == []
    assert _failed(bundle_folder) == {}


def test_an_export_in_more_files_than_its_format_has_is_refused(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a large ONNX whose weights lie in a file of their own, which would be left behind."""

    def in_two(network: torch.nn.Module, window: torch.Tensor, path: Path) -> None:
        way.write(network, window, path)
        path.with_name("model.pt2.data").write_bytes(b"weights")

    way = exports._WAYS["pt2"]
    monkeypatch.setitem(exports._WAYS, "pt2", replace(way, write=in_two))
    with pytest.raises(BundleError, match="too large for one file"):
        package(PackageConfig(model=bundle_folder, pt2=True))
    assert not (bundle_folder / "models" / "model.pt2").exists()
