"""A bundle of the Model Zoo's shape gives the labels that MONAI's own run gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigWorkflow

from unetpipe.bundle.predictor import Predictor
from unetpipe.config.infer import InferConfig
from unetpipe.stages.infer import infer

AFFINE = np.array([[0, 0, 1.7, -20.0], [-0.9, 0, 0, 30.0], [0, 1.2, 0, 5.0], [0, 0, 0, 1]])
SHAPE = (40, 34, 22)
Config = dict[str, Any]


def _scan(path: Path, seed: int) -> None:
    """Smooth structures within a frame of zeros."""
    coarse = torch.from_numpy(np.random.default_rng(seed).normal(50, 90, (1, 1, 9, 8, 6))).float()
    image = torch.nn.functional.interpolate(coarse, size=SHAPE, mode="trilinear")[0, 0].numpy()
    frame = np.zeros(SHAPE, np.float32)
    frame[4:-3, 5:-6, 2:-2] = 1
    nib.save(nib.Nifti1Image((image * frame).astype(np.float32), AFFINE), path)


def _scans(folder: Path, config: Config) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"scan_{n:04d}.nii.gz" for n in range(config["network_def"]["in_channels"])]
    for seed, path in enumerate(paths):
        _scan(path, seed)
    return paths


def _monai_labels(bundle: Path, images: Path, config: Config) -> np.ndarray:
    """Labels by MONAI's own workflow, in the axis order of the file."""
    last = len(config["postprocessing"]["transforms"]) - 1
    changes: Config = {
        # MONAI 1.6 cannot save labels of images that it stacked from several files where axes are permuted
        f"postprocessing#transforms#{last}": {"_target_": "Identityd", "keys": "pred"},
        "preprocessing#transforms#0": {"_target_": "LoadImaged", "keys": "image"},  # ITKReader needs the package itk
    }
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"),
        workflow_type="inference",
        bundle_root=str(bundle),
        dataset_dir=str(images),
        logging_file=False,
        **changes,
    )
    workflow.initialize()
    workflow.run()
    (labels,) = (output["pred"][0].numpy() for output in workflow.evaluator.state.output)
    workflow.finalize()
    return labels


def test_labels_are_those_of_monai(any_config: Config, write_foreign: Callable[..., Path], tmp_path: Path) -> None:
    """Of 1000 voxels at least 999 get the class that MONAI gives them, on a permuted and anisotropic scan."""
    bundle = write_foreign(any_config)
    scans = _scans(tmp_path / "images", any_config)
    expected = _monai_labels(bundle, tmp_path / "images", any_config)
    options = {"models": (bundle,), "inputs": (tmp_path / "images",), "out": tmp_path / "ours"}
    result = infer(InferConfig(**options, precision="fp32", device="cpu"))
    assert not result.failed
    (file,) = (tmp_path / "ours").glob("*.nii.gz")
    ours = nib.load(file)
    labels = np.asanyarray(ours.dataobj)
    assert np.allclose(ours.affine, nib.load(scans[0]).affine)
    assert len(np.unique(labels)) > 1
    assert (labels == np.round(expected)).mean() >= 0.999


def test_a_threshold_is_reached_as_in_monai(
    zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path], tmp_path: Path
) -> None:
    """A probability of exactly 0.5 is enough for a threshold of 0.5."""
    config = zoo_config("brats_mri")
    bundle = write_foreign(config)
    file = bundle / "models" / "model.pt"
    torch.save({name: torch.zeros_like(value) for name, value in torch.load(file, weights_only=True).items()}, file)
    scans = _scans(tmp_path / "images", config)
    expected = _monai_labels(bundle, tmp_path / "images", config)
    image = np.stack([np.asarray(nib.load(path).dataobj, np.float32) for path in scans])
    assert set(np.unique(expected)) == {4}
    assert np.array_equal(Predictor(bundle, device="cpu", precision="fp32").predict(image, AFFINE), expected)


def test_yaml_gives_the_same(zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path]) -> None:
    """A bundle in YAML, with a macro, gives the labels of the same one in JSON."""
    config = zoo_config("spleen_ct")
    plain = write_foreign(config)
    config["roi"] = [16, 16, 16]
    config["inferer"]["roi_size"] = "%roi"
    other = write_foreign(config, "other", "yaml")
    image = np.random.default_rng(0).normal(50, 80, (20, 21, 22)).astype(np.float32)
    first, second = (Predictor(path, device="cpu").predict(image, AFFINE) for path in (plain, other))
    assert np.array_equal(first, second)


def test_an_argument_that_monai_removed_is_left_out(
    zoo_config: Callable[[str], Config], write_foreign: Callable[..., Path]
) -> None:
    """`img_size` of SwinUNETR says nothing any more: the network is built without it."""
    bundle = write_foreign(zoo_config("swin_unetr_btcv"))
    file = bundle / "configs" / "inference.json"
    file.write_text(file.read_text().replace('"feature_size"', '"img_size": 96, "feature_size"'))
    assert Predictor(bundle, device="cpu").names[13] == "class 13"
