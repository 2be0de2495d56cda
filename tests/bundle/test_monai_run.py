"""A bundle gives the same labels with MONAI alone as with `unetpipe infer`."""

import json
from collections.abc import Callable
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.write import write_bundle
from unetpipe.config.infer import InferConfig
from unetpipe.dataset.label_scheme import LabelClass, Region
from unetpipe.dataset.planning.plan import Configuration
from unetpipe.imaging.preprocessing import DEFAULT_STEPS, ChannelNormalization, Interpolation, Preprocessing, Step
from unetpipe.networks.build import build_network, output_channels
from unetpipe.networks.definition import network_definition
from unetpipe.stages.infer import infer

RunMonai = Callable[..., str]

ZSCORE = ChannelNormalization(scheme="zscore")
NONZERO = ChannelNormalization(scheme="zscore_nonzero")
CT = ChannelNormalization(scheme="ct", mean=20.0, std=30.0, lower=-50.0, upper=120.0)


def _bundle(
    folder: Path,
    *,
    spacing: tuple[float, ...],
    interpolation: tuple[Interpolation, ...],
    normalization: tuple[ChannelNormalization, ...],
    values: tuple[int, ...],
    network: str = "dynunet",
    patch: tuple[int, ...] | None = None,
    options: dict[str, object] | None = None,
    regions: tuple[Region, ...] = (),
    steps: tuple[Step, ...] = DEFAULT_STEPS,
    postprocessing: tuple[str, ...] = (),
) -> Path:
    dims = len(spacing)
    configuration = Configuration(
        spacing_mm=spacing,
        interpolation=interpolation,
        median_shape=(32,) * dims,
        patch_size=patch or (16,) * dims,
        batch_size=2,
        strides=((1,) * dims, (2,) * dims, (2,) * dims),
        kernel_sizes=((3,) * dims,) * 3,
        features=(4, 8, 16),
    )
    spec = ModelSpec(
        spatial_dims=3 if dims == 3 else 2,
        channels=tuple(f"channel {n}" for n in range(len(normalization))),
        labels=tuple(LabelClass(name=f"class {value}", value=value) for value in values),
        regions=regions,
        preprocessing=Preprocessing(
            spacing_mm=spacing, interpolation=interpolation, normalization=normalization, steps=steps
        ),
        patch_size=configuration.patch_size,
        mirror_axes=(),
        postprocessing=postprocessing,
    )
    torch.manual_seed(0)
    definition = network_definition(
        network,
        configuration,
        len(normalization),
        spec.label_scheme.count,
        options=options,
        overlapping=spec.label_scheme.overlapping,
    )
    built = build_network(definition).eval()
    if output_channels(definition) == 1:  # untrained, it may say background everywhere: let it for half of the voxels
        with torch.no_grad():
            built[-1].bias -= built(torch.randn(1, len(normalization), *configuration.patch_size))[:, 1].median()
    write_bundle(folder, spec, definition, built.state_dict())
    return folder


def _blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Smooth positive structure inside a frame of zeros, so that there is something to crop and to segment."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(50, 60, (1, 1, *[max(2, n // 5) for n in shape]))).float()
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    image = torch.nn.functional.interpolate(coarse, size=shape, mode=mode)[0, 0].numpy()
    frame = np.zeros(shape, bool)
    frame[tuple(slice(2, -3) for _ in shape)] = True
    return np.where(frame, image, 0).astype(np.float32)


def _in_process(bundle: Path, images: Path, out: Path) -> None:
    """As `run_monai`; a process of its own would only import torch and MONAI again."""
    monai.bundle.run(
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
        dataset_dir=str(images),
        output_dir=str(out),
        device="$torch.device('cpu')",
    )


AFFINES = {
    "plain": np.diag([-0.9, 1.1, 1.6, 1.0]),
    "permuted": np.array([[0, 0, 1.7, -20.0], [-0.8, 0, 0, 30.0], [0, 1.2, 0, 5.0], [0, 0, 0, 1]]),
    "oblique": np.array([[0.9, 0.1, 0.0, 3.0], [-0.1, 1.0, 0.3, -8.0], [0.0, -0.25, 1.5, 11.0], [0, 0, 0, 1]]),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spacing", "interpolation", "normalization", "values"),
    [
        ((1.0, 1.0, 1.0), ("cubic", "cubic", "cubic"), (ZSCORE,), (0, 1, 2)),
        ((1.3, 0.7, 2.3), ("cubic", "cubic", "nearest"), (CT,), (0, 3, 300)),
        ((1.1, 1.0, 1.2), ("cubic", "cubic", "cubic"), (NONZERO, CT), (0, 1, 2)),
    ],
    ids=["isotropic", "anisotropic-ct", "two-channels"],
)
def test_same_labels_in_3d(
    tmp_path: Path,
    spacing: tuple[float, ...],
    interpolation: tuple[Interpolation, ...],
    normalization: tuple[ChannelNormalization, ...],
    values: tuple[int, ...],
    run_monai: RunMonai,
) -> None:
    """Any orientation, oblique too, cropped and resampled: same grid, and the same labels but for ties."""
    images = tmp_path / "images"
    images.mkdir()
    for seed, (name, affine) in enumerate(AFFINES.items()):
        for channel in range(len(normalization)):
            suffix = f"_{channel:04d}" if len(normalization) > 1 else ""
            image = nib.Nifti1Image(_blobs((37, 30, 25), 10 * seed + channel), affine)
            nib.save(image, images / f"{name}{suffix}.nii.gz")
    bundle = _bundle(
        tmp_path / "bundle", spacing=spacing, interpolation=interpolation, normalization=normalization, values=values
    )
    infer(InferConfig(models=(bundle,), inputs=(images,), out=tmp_path / "ours", device="cpu", precision="fp32"))
    (tmp_path / "theirs").mkdir()
    run_monai(bundle, "inference", dataset_dir=images, output_dir=tmp_path / "theirs")
    for name, affine in AFFINES.items():
        ours = nib.load(tmp_path / "ours" / f"{name}.nii.gz")
        suffix = "_0000" if len(normalization) > 1 else ""
        theirs = nib.load(tmp_path / "theirs" / f"{name}{suffix}.nii.gz")
        assert np.allclose(ours.affine, affine, atol=1e-5)
        assert np.allclose(theirs.affine, affine, atol=1e-4)
        a, b = np.asarray(ours.dataobj), np.asarray(theirs.dataobj)
        assert a.shape == b.shape == (37, 30, 25)
        assert len(np.unique(a)) > 1, "a constant label map agrees with anything"
        assert set(np.unique(a)) <= set(values)
        assert (a == b).mean() >= 0.9995, name


@pytest.mark.slow
def test_same_labels_in_2d(tmp_path: Path, run_monai: RunMonai) -> None:
    """RGB images through the classic U-Net with one output channel."""
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(2):
        channels = [np.clip(_blobs((45, 33), 3 * seed + c) + 60, 0, 255) for c in range(3)]
        Image.fromarray(np.stack(channels, -1).astype(np.uint8)).save(images / f"photo_{seed}.png")
    bundle = _bundle(
        tmp_path / "bundle",
        spacing=(1.0, 1.0),
        interpolation=("cubic", "cubic"),
        normalization=(ZSCORE,) * 3,
        values=(0, 1),
        network="unet",
    )
    infer(InferConfig(models=(bundle,), inputs=(images,), out=tmp_path / "ours", device="cpu", precision="fp32"))
    (tmp_path / "theirs").mkdir()
    run_monai(bundle, "inference", dataset_dir=images, output_dir=tmp_path / "theirs", output_ext=".png")
    for seed in range(2):
        a, b = (np.asarray(Image.open(tmp_path / who / f"photo_{seed}.png")) for who in ("ours", "theirs"))
        assert a.shape == b.shape == (45, 33)
        assert len(np.unique(a)) > 1
        assert (a == b).mean() >= 0.9995


def test_regions_are_written_in_their_order(tmp_path: Path) -> None:
    """Sigmoid outputs that overlap: the last region above 0 decides, with MONAI as with `infer`."""
    images = tmp_path / "images"
    images.mkdir()
    nib.save(nib.Nifti1Image(_blobs((33, 30, 25), 0), AFFINES["permuted"]), images / "scan.nii.gz")
    bundle = _bundle(
        tmp_path / "bundle",
        spacing=(1.3, 1.0, 1.0),
        interpolation=("cubic", "cubic", "cubic"),
        normalization=(ZSCORE,),
        values=(0, 1, 2, 4),
        regions=(
            Region(name="whole", values=(1, 2, 4), written=2),
            Region(name="core", values=(1, 4), written=1),
            Region(name="active", values=(4,), written=4),
        ),
    )
    config = InferConfig(
        models=(bundle,), inputs=(images,), out=tmp_path / "ours", device="cpu", precision="fp32",
        save_probabilities=True, save_uncertainty=True,
    )  # fmt: skip
    infer(config)
    _in_process(bundle, images, tmp_path / "theirs")
    ours, theirs = (np.asarray(nib.load(tmp_path / who / "scan.nii.gz").dataobj) for who in ("ours", "theirs"))
    assert set(np.unique(ours)) == {0, 1, 2, 4}
    assert (ours == theirs).mean() >= 0.9995
    with np.load(tmp_path / "ours" / "probabilities" / "scan.npz") as saved:
        assert saved["values"].tolist() == [2, 1, 4]
        whole, core, active = saved["probabilities"]
    expected = np.where(active > 0.5, 4, np.where(core > 0.5, 1, np.where(whole > 0.5, 2, 0)))
    assert (ours == expected).mean() >= 0.995  # float16 rounds a few to 0.5
    plain = config.model_copy(
        update={"out": tmp_path / "plain", "save_probabilities": False, "save_uncertainty": False, "tta": True}
    )
    infer(plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("resenc", {}),
        ("unet", {"upsampling": "interpolated"}),
        ("segresnet", {}),
        ("swinunetr", {"feature_size": 12, "depths": [1, 1, 1, 1]}),
        ("AttentionUnet", {"channels": [4, 8], "strides": [2]}),
    ],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_network_gives_the_same_labels(
    tmp_path: Path, network: str, options: dict[str, object], classes: int
) -> None:
    """Whatever the network is composed of, MONAI builds it from the config, binary and multi-class."""
    images = tmp_path / "images"
    images.mkdir()
    nib.save(nib.Nifti1Image(_blobs((33, 30, 25), 0), AFFINES["permuted"]), images / "scan.nii.gz")
    bundle = _bundle(
        tmp_path / "bundle",
        spacing=(1.0, 1.0, 1.0),
        interpolation=("cubic", "cubic", "cubic"),
        normalization=(ZSCORE,),
        values=tuple(range(classes)),
        network=network,
        patch=(64, 32, 32) if network == "swinunetr" else None,
        options=options,
    )
    infer(InferConfig(models=(bundle,), inputs=(images,), out=tmp_path / "ours", device="cpu", precision="fp32"))
    _in_process(bundle, images, tmp_path / "theirs")
    ours, theirs = (np.asarray(nib.load(tmp_path / who / "scan.nii.gz").dataobj) for who in ("ours", "theirs"))
    assert len(np.unique(ours)) == classes
    assert (ours == theirs).mean() >= 0.9995
    _only_monai_and_torch(bundle)


STEPS: dict[str, tuple[Step, ...]] = {
    "intensities": (
        {"_target_": "monai.transforms.MedianSmoothd", "radius": 1},
        "normalize",
        {
            "_target_": "monai.transforms.ScaleIntensityRangePercentilesd",
            "lower": 1,
            "upper": 99,
            "b_min": 0,
            "b_max": 1,
        },
    ),
    "moved": (
        "normalize",
        {"_target_": "monai.transforms.Flipd", "spatial_axis": 0},
        {"_target_": "monai.transforms.CropForegroundd", "source_key": "image", "margin": 1},
        {"_target_": "monai.transforms.Rotated", "angle": [0.0, 0.0, 0.3], "keep_size": False},
        {"_target_": "monai.transforms.DivisiblePadd", "k": 8},
    ),
}


@pytest.mark.parametrize("kind", STEPS)
def test_steps_give_the_same_labels(tmp_path: Path, kind: str) -> None:
    """Steps before and after the normalisation, of intensities and of voxels, run with MONAI alone as with `infer`."""
    images = tmp_path / "images"
    images.mkdir()
    nib.save(nib.Nifti1Image(_blobs((37, 30, 25), 0), AFFINES["oblique"]), images / "scan.nii.gz")
    bundle = _bundle(
        tmp_path / "bundle",
        spacing=(1.3, 1.0, 1.1),
        interpolation=("cubic", "cubic", "cubic"),
        normalization=(ZSCORE,),
        values=(0, 1, 2),
        steps=STEPS[kind],
    )
    infer(InferConfig(models=(bundle,), inputs=(images,), out=tmp_path / "ours", device="cpu", precision="fp32"))
    _in_process(bundle, images, tmp_path / "theirs")
    ours, theirs = (np.asarray(nib.load(tmp_path / who / "scan.nii.gz").dataobj) for who in ("ours", "theirs"))
    assert ours.shape == theirs.shape == (37, 30, 25)
    assert len(np.unique(ours)) > 1
    assert (ours == theirs).mean() >= 0.9995
    _only_monai_and_torch(bundle)
    assert "Flipd" in (bundle / "docs" / "README.md").read_text() or kind == "intensities"


def test_largest_components_are_kept_alike(tmp_path: Path) -> None:
    """What a bundle names in its post-processing is one component with MONAI alone as with `infer`."""
    images = tmp_path / "images"
    images.mkdir()
    nib.save(nib.Nifti1Image(_blobs((33, 30, 25), 0), AFFINES["permuted"]), images / "scan.nii.gz")
    bundle = _bundle(
        tmp_path / "bundle",
        spacing=(1.0, 1.0, 1.0),
        interpolation=("cubic", "cubic", "cubic"),
        normalization=(ZSCORE,),
        values=(0, 1, 4),
        postprocessing=("class 4",),
    )
    config = InferConfig(models=(bundle,), inputs=(images,), out=tmp_path / "ours", device="cpu", precision="fp32")
    infer(config)
    infer(config.model_copy(update={"out": tmp_path / "raw", "postprocess": False}))
    _in_process(bundle, images, tmp_path / "theirs")
    ours, theirs, raw = (
        np.asarray(nib.load(tmp_path / who / "scan.nii.gz").dataobj) for who in ("ours", "theirs", "raw")
    )
    structure = np.ones((3, 3, 3))
    assert ndimage.label(raw == 4, structure)[1] > 1
    assert ndimage.label(ours == 4, structure)[1] == 1
    assert (ours == theirs).mean() >= 0.9995
    assert "scikit-image" in json.loads((bundle / "configs" / "metadata.json").read_text())["required_packages_version"]


def test_configs_name_monai_and_torch_only(bundle_folder: Path) -> None:
    """No target, import or expression of ours: the bundle runs where unetpipe is not installed."""
    _only_monai_and_torch(bundle_folder)


def _only_monai_and_torch(bundle: Path) -> None:
    text = (bundle / "configs" / "inference.json").read_text()
    assert "unetpipe" not in text

    def targets(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["_target_"]] if "_target_" in value else []
            return own + [target for item in value.values() for target in targets(item)]
        return [target for item in value for target in targets(item)] if isinstance(value, list) else []

    found = targets(json.loads(text))
    assert len(found) > 10
    assert all(target.startswith(("monai.", "torch.nn.")) for target in found)
