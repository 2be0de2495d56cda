"""A bundle that is made of nnU-Net's model folder gives the labels that nnU-Net gives."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch

from unetpipe.bundle.nnunet.convert import _order, convert
from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.verify import verify_bundle
from unetpipe.config.package import PackageConfig
from unetpipe.errors import BundleError
from unetpipe.stages.package import package

Write = Callable[..., tuple[Path, torch.nn.Module]]
REGIONS = {
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]},
    "regions_class_order": [1, 2, 3],
}


@pytest.mark.parametrize(
    ("residual", "flat", "forward"),
    [(False, False, [0, 1, 2]), (False, True, [1, 0, 2]), (True, False, [0, 1, 2]), (True, True, [2, 0, 1])],
)
def test_logits_are_those_of_the_network(
    model_folder: Write, tmp_path: Path, residual: bool, flat: bool, forward: list[int]
) -> None:
    """Plain or residual, with kernels of 1 and any order of axes: both networks map a window to the same logits."""
    folder, network = model_folder(residual=residual, flat=flat, transpose_forward=forward)
    assert convert(folder, tmp_path / "bundle") == (0,)
    bundle = read_bundle(tmp_path / "bundle")
    window = torch.randn(1, 1, 8, 16, 12)
    # nnU-Net's axis n is the axis forward[n] of (z, y, x)
    ours = [2 + forward.index(2 - axis) for axis in range(3)]
    with torch.inference_mode():
        expected = network(window).permute(0, 1, *ours)
        found = bundle.network()(window.permute(0, 1, *ours))
    assert bundle.spec.patch_size == tuple(expected.shape[2:])
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_plan_is_carried_over(model_folder: Write, tmp_path: Path) -> None:
    """Voxel size, mirroring, normalisation and windows have the order of our axes, and the bundle passes its checks."""
    folder, _ = model_folder(normalization_schemes=["CTNormalization"])
    options = {"from_nnunet": folder, "out": tmp_path / "bundle"}
    result = package(PackageConfig.model_validate(options))
    assert result.passed, [check.message for check in result.checks]
    spec = read_bundle(tmp_path / "bundle").spec
    assert spec.preprocessing.spacing_mm == (0.9, 1.0, 1.5)
    assert spec.mirror_axes == (0, 2)
    assert spec.preprocessing.orientation == "stored"
    assert spec.preprocessing.normalization[0].upper == 600
    assert spec.blending.convention == "nnunet"


def test_channels_are_in_the_order_of_their_numbers() -> None:
    """Ten comes after two."""
    assert sorted(["10", "2", "0", "11", "1"], key=_order) == ["0", "1", "2", "10", "11"]


@pytest.mark.parametrize("labels", [None, REGIONS])
def test_several_folds_and_regions(model_folder: Write, tmp_path: Path, labels: Any) -> None:
    """All folds go into one bundle, whose labels are those that nnU-Net writes for classes and for regions."""
    folder, _ = model_folder(labels=labels, folds=2)
    assert convert(folder, tmp_path / "bundle") == (0, 1)
    predictor = Predictor(tmp_path / "bundle", device="cpu")
    image = np.random.default_rng(0).normal(300, 90, (20, 18, 14)).astype(np.float32)
    found = predictor.predict(image, np.diag([-0.9, -1.0, 1.5, 1]))
    assert set(np.unique(found)) <= {0, 1, 2, 3}
    assert len(np.unique(found)) > 1
    assert all(check.passed for check in verify_bundle(tmp_path / "bundle"))


def test_monai_alone_preprocesses_alike(model_folder: Write, tmp_path: Path) -> None:
    """With MONAI's windows in place of nnU-Net's, MONAI alone gives the same labels, also of thick slices and holes."""
    folder, _ = model_folder(use_mask_for_norm=[True])
    bundle, scans, out = tmp_path / "bundle", tmp_path / "scans", tmp_path / "monai"
    convert(folder, bundle)
    metadata = bundle / "configs" / "metadata.json"
    metadata.write_text(metadata.read_text().replace('"convention": "nnunet"', '"convention": "monai"'))
    scans.mkdir()
    _scan(scans / "plain.nii.gz", (26, 30, 24), np.diag([-1.0, -0.9, 1.3, 1]))
    _scan(scans / "thick.nii.gz", (34, 30, 10), np.diag([-0.9, 0.8, 4.0, 1]))
    monai.bundle.run(
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
        dataset_dir=str(scans),
        output_dir=str(out),
        device="$torch.device('cpu')",
    )
    predictor = Predictor(bundle, device="cpu", precision="fp32")
    for file in sorted(scans.iterdir()):
        image = nib.load(file)
        found = predictor.predict(np.asanyarray(image.dataobj), image.affine)
        assert (found == np.asanyarray(nib.load(out / file.name).dataobj)).mean() >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize(("residual", "scheme"), [(False, "masked"), (True, "ZScoreNormalization")])
def test_labels_are_those_of_nnunet(model_folder: Write, tmp_path: Path, residual: bool, scheme: str) -> None:
    """Of 1000 voxels at least 999 get nnU-Net's class, thick slices included; UNETPIPE_NNUNET names its Python."""
    python = os.environ.get("UNETPIPE_NNUNET")
    if not python:
        pytest.skip("nnU-Net is not here: UNETPIPE_NNUNET names no Python that has nnunetv2")
    masked = scheme == "masked"
    schemes = ["ZScoreNormalization" if masked else scheme]
    folder, _ = model_folder(residual=residual, normalization_schemes=schemes, use_mask_for_norm=[masked])
    scans, theirs = tmp_path / "scans", tmp_path / "theirs"
    scans.mkdir()
    theirs.mkdir()
    _scan(scans / "plain_0000.nii.gz", (26, 30, 24), np.diag([-1.0, -0.9, 1.3, 1]))
    _scan(scans / "thick_0000.nii.gz", (34, 30, 10), np.diag([-0.9, 0.8, 4.0, 1]))
    convert(folder, tmp_path / "bundle")
    files = [str(path) for path in sorted(scans.iterdir())]
    command = [python, "-c", _PREDICT, str(folder), str(theirs), *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    predictor = Predictor(tmp_path / "bundle", device="cpu", precision="fp32")
    for file in sorted(theirs.glob("*.nii.gz")):
        image = nib.load(scans / file.name.replace(".nii.gz", "_0000.nii.gz"))
        found = predictor.predict(np.asanyarray(image.dataobj), image.affine)
        assert (found == np.asanyarray(nib.load(file).dataobj)).mean() >= 0.999


_PREDICT = """
import os, sys
for name in ("raw", "preprocessed", "results"):
    os.environ["nnUNet_" + name] = sys.argv[2]
import torch
torch.half = torch.float16 = torch.float32  # of the sums, whose rounding decides where classes are alike
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
torch.set_num_threads(1)
predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
predictor.initialize_from_trained_model_folder(sys.argv[1], None, "checkpoint_final.pth")
outputs = [os.path.join(sys.argv[2], os.path.basename(file).replace("_0000", "")) for file in sys.argv[3:]]
predictor.predict_from_files_sequential([[file] for file in sys.argv[3:]], outputs)
"""


def _scan(path: Path, shape: tuple[int, int, int], affine: np.ndarray) -> None:
    """Smooth structures with a hole of zeros, in a frame of zeros."""
    coarse = torch.from_numpy(np.random.default_rng(0).normal(300, 120, (1, 1, 8, 7, 5))).float()
    image = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")[0, 0].numpy()
    image[10:13, 10:13, 4:6] = 0
    frame = np.zeros(shape, np.float32)
    frame[2:-3, 3:-2, 1:-1] = 1
    nib.save(nib.Nifti1Image((image * frame).astype(np.float32), affine), path)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another preprocessor": ({"preprocessor_name": "MyPreprocessor"}, "MyPreprocessor"),
    "a normalisation of its own": ({"normalization_schemes": ["MyNormalization"]}, "MyNormalization"),
    "resampling in torch": ({"resampling_fn_data": "resample_torch_fornnunet"}, "resample_torch_fornnunet"),
    "another order": ({"resampling_fn_probabilities_kwargs": {"order": 0}}, "resampling_fn_probabilities_kwargs"),
    "a reader of pictures": ({"image_reader_writer": "NaturalImage2DIO"}, "NaturalImage2DIO"),
    "2-D": ({"patch_size": [32, 32], "spacing": [1.0, 1.0]}, "2 axes"),
    "no spacing": ({"spacing": [0.0, 1.0, 1.0]}, "spacing_mm"),
    "spacing of texts": ({"spacing": ["a", 1.0, 1.0]}, "spacing"),
    "a patch beyond memory": ({"patch_size": [10**6] * 3}, "patch_size"),
    "axes twice": ({"transpose_forward": [0, 0, 1]}, "transpose_forward"),
    "a patch that its strides do not divide": ({"patch_size": [8, 16, 13]}, "patch_size[0] is 13"),
    "another network": ({"architecture": {"network_class_name": "x.Primus", "arch_kwargs": {}}}, "architecture"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_equivalent_is_named(model_folder: Write, tmp_path: Path, what: str) -> None:
    """One line says what cannot be taken, and nothing is written."""
    changes, message = REFUSED[what]
    folder, _ = model_folder(**changes)
    with pytest.raises(BundleError) as caught:
        convert(folder, tmp_path / "bundle")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "bundle").exists()


class _Runs:
    def __init__(self, folder: Path) -> None:
        self.command = f"touch {folder}/executed"

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (self.command,))


def test_a_program_in_a_checkpoint_does_not_run(model_folder: Write, tmp_path: Path) -> None:
    """Numbers of numpy's are read from a checkpoint's log, and nothing else than tensors and plain values."""
    folder, _ = model_folder()
    file = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    torch.save({**content, "logging": _Runs(tmp_path)}, file)
    with pytest.raises(BundleError, match="holds more than tensors and plain values"):
        convert(folder, tmp_path / "bundle")
    assert not (tmp_path / "executed").exists()


def test_missing_files_are_named(model_folder: Write, tmp_path: Path) -> None:
    """A folder without a final checkpoint, and one that is no model, say so."""
    folder, _ = model_folder()
    with pytest.raises(BundleError, match="fold_3"):
        convert(folder, tmp_path / "bundle", (3,))
    content = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    del content["network_weights"]["decoder.transpconvs.0.weight"]
    torch.save(content, folder / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(BundleError, match=r"no weight decoder\.transpconvs\.0\.weight"):
        convert(folder, tmp_path / "bundle")
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0}}))
    with pytest.raises(BundleError, match="channel_names"):
        convert(folder, tmp_path / "bundle")


@pytest.mark.parametrize("residual", [False, True])
def test_a_single_region_is_a_class(model_folder: Write, tmp_path: Path, residual: bool) -> None:
    """nnU-Net gives its one output a sigmoid: it is the foreground's logit of two classes."""
    declared = {"labels": {"background": 0, "whole": [1, 2]}, "regions_class_order": [1]}
    folder, network = model_folder(residual=residual, labels=declared)
    convert(folder, tmp_path / "bundle")
    bundle, window = read_bundle(tmp_path / "bundle"), torch.randn(1, 1, 8, 16, 12)
    with torch.inference_mode():
        theirs = network(window).permute(0, 1, 4, 3, 2) > 0
        ours = bundle.network()(window.permute(0, 1, 4, 3, 2)).argmax(1, keepdim=True) == 1
    assert theirs.any()
    assert (ours == theirs).float().mean() > 0.999
    image = np.random.default_rng(0).normal(300, 90, (20, 18, 14)).astype(np.float32)
    found = Predictor(tmp_path / "bundle", device="cpu").predict(image, np.diag([-0.9, -1.0, 1.5, 1]))
    assert set(np.unique(found)) == {0, 1}
    assert all(check.passed for check in verify_bundle(tmp_path / "bundle"))
