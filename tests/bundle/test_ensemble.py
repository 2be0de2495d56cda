"""A bundle of several folds averages their logits wherever it runs."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch

from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.verify import verify_bundle
from unetpipe.bundle.write import write_bundle
from unetpipe.config.package import PackageConfig
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.errors import BundleError
from unetpipe.networks.build import build_network
from unetpipe.stages.package import package

MakeBundle = Callable[..., Path]


@pytest.fixture
def run(make_bundle: MakeBundle) -> Path:
    """A run of three folds, the last one of another width, with random weights."""
    folders = [make_bundle(f"run/fold_{fold}", seed=fold, spacing_mm=(1.2, 1.0, 1.1)) for fold in range(3)]
    _rewrite(folders[2], channels=[4, 12])
    _rewrite(folders[0], postprocessing=("class 1", "class 2"), mirror_axes=(0, 1))
    _rewrite(folders[1], postprocessing=("class 1",))
    return folders[0].parent


def _rewrite(folder: Path, channels: list[int] | None = None, **changes: Any) -> None:
    bundle = read_bundle(folder)
    definition, weights = bundle.network_def, bundle.state_dict()
    if channels:
        definition = definition | {"channels": channels}
        weights = build_network(definition).state_dict()
    write_bundle(folder, bundle.spec.model_copy(update=changes), definition, weights)


def _ensemble(run: Path, folds: str = "all", **more: Any) -> Path:
    out = run.parent / "ensemble"
    assert package(PackageConfig(model=run, folds=folds, out=out, **more)).passed
    return out


def _scan(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 1, 6, 6, 5, generator=generator) * 60 + 300
    image = torch.nn.functional.interpolate(coarse, size=(31, 28, 25), mode="trilinear")[0, 0].numpy()
    affine = np.array([[0, 0, 1.2, -20.0], [-0.9, 0, 0, 30.0], [0, 1.0, 0, 5.0], [0, 0, 0, 1]])
    folder.mkdir()
    nib.save(nib.Nifti1Image(image, affine), folder / "scan.nii.gz")  # type: ignore[attr-defined]
    return image, affine


def test_the_ensemble_gives_the_labels_of_its_folds_with_unetpipe_and_with_monai_alone(
    run: Path, tmp_path: Path
) -> None:
    """Its folds given one by one, the one bundle, and MONAI's EnsembleEvaluator agree."""
    image, affine = _scan(tmp_path / "images")
    folder = _ensemble(run)
    assert sorted(path.name for path in (folder / "models").iterdir()) == [f"model_fold{n}.pt" for n in range(3)]
    apart, together = (Predictor(one, device="cpu", precision="fp32").predict(image, affine) for one in (run, folder))
    assert len(np.unique(apart)) > 1
    assert (apart == together).all()
    monai.bundle.run(
        config_file=str(folder / "configs" / "inference.json"),
        bundle_root=str(folder),
        dataset_dir=str(tmp_path / "images"),
        output_dir=str(tmp_path / "out"),
        device="$torch.device('cpu')",
    )
    alone = np.asarray(nib.load(tmp_path / "out" / "scan.nii.gz").dataobj)  # type: ignore[attr-defined]
    assert (alone == together).mean() >= 0.9995


def test_what_the_folds_do_not_share_is_decided_once(run: Path) -> None:
    """Common mirror axes, post-processing by majority, one version; agreement between folds is measured."""
    folder = _ensemble(run)
    bundle = read_bundle(folder)
    assert bundle.spec.mirror_axes == (0, 1)
    assert bundle.spec.postprocessing == ("class 1",)
    assert (bundle.version, bundle.spec.folds) == ("0.1.0", (0, 1, 2))
    predictor = Predictor(folder, device="cpu", precision="fp32")
    assert len(predictor._groups[0].ensemble.networks) == 3
    _rewrite(run / "fold_1", channels=[6, 8])
    assert read_bundle(_ensemble(run)).release.changelog["0.2.0"] == "changed: weights"
    assert read_bundle(_ensemble(run, "0,1")).version == "0.3.0"
    assert [check for check in verify_bundle(folder) if not check.passed] == []


@pytest.mark.parametrize("format", ["torchscript", "pt2", "onnx", "openvino"])
def test_an_export_of_an_ensemble_gives_the_mean_logits(run: Path, format: str) -> None:
    """One file holds all members."""
    # not importorskip: OpenVINO brings its telemetry if it is imported here
    if find_spec({"onnx": "onnxruntime", "openvino": "openvino"}.get(format, "torch")) is None:
        pytest.skip(f"what runs {format} is not installed")
    _ensemble(run, **{format: True})
    exports = json.loads((run.parent / "ensemble" / "models" / "exports.json").read_text())["exports"]
    assert [one["format"] for one in exports] == [format]
    assert exports[0]["difference"] < 1e-3


def test_models_of_other_orders_of_axes_are_not_averaged(make_bundle: Callable[..., Path]) -> None:
    """Logits in RAS+ order and in the file's are mirror images of each other."""
    first, other = make_bundle("ours"), make_bundle("theirs", seed=1)
    preprocessing = read_bundle(other).spec.preprocessing
    _rewrite(other, preprocessing=preprocessing.model_copy(update={"orientation": "stored"}))
    with pytest.raises(BundleError, match="ours and theirs cannot be averaged: their orders of axes differ"):
        Predictor((first, other), device="cpu")


def test_what_is_no_ensemble_is_refused_by_name(run: Path, logged: list[str]) -> None:
    """Absent folds, other classes, a training that is not over: one line each."""
    for folds, message in (("0,7", "fold"), ("1,x", "folds")):
        with pytest.raises(Exception, match=message):
            _ensemble(run, folds)
    _rewrite(run / "fold_1", finished=False)
    with pytest.raises(BundleError, match="fold_1 is not trained to its end"):
        _ensemble(run)
    with pytest.raises(BundleError, match="fold_1 is not trained to its end, so that it cannot be averaged yet"):
        Predictor(run, device="cpu")
    Predictor(run / "fold_1", device="cpu")
    assert logged[-1] == "fold_1 is not trained to its end"
    _rewrite(run / "fold_0", step_code=("ab",))
    _rewrite(run / "fold_1", finished=True, step_code=("cd",))
    with pytest.raises(BundleError, match="its folds had different files of preprocessing steps"):
        _ensemble(run)
    labels = tuple(LabelClass(name=name, value=n) for n, name in enumerate(("class 0", "kidney", "class 2")))
    _rewrite(run / "fold_1", step_code=(), labels=labels, postprocessing=())
    differ = (
        r"fold_0 and fold_1 cannot be averaged: their labels differ: \(.*class 1.*\) and \(class 0, kidney, class 2\)"
    )
    with pytest.raises(BundleError, match=differ):
        _ensemble(run)
    with pytest.raises(BundleError, match="is an ensemble of 2 networks"):
        read_bundle(_ensemble(run, "0,2")).state_dict()
