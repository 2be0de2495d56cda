"""Preprocessing steps that a person adds: in their place, with the label, and back."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import MapTransform, MedianSmooth, ScaleIntensityRangePercentiles
from pydantic import ValidationError
from torch import Tensor

from unetpipe import components
from unetpipe.components import register
from unetpipe.errors import ComponentError
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.image import Image
from unetpipe.imaging.network_input import CroppedImage, network_image, network_label
from unetpipe.imaging.normalization import normalize
from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing, Step
from unetpipe.imaging.steps import require_steps

ZSCORE = ChannelNormalization(scheme="zscore")
CT = ChannelNormalization(scheme="ct", mean=80.0, std=40.0, lower=-50.0, upper=250.0)
PERCENTILES = {
    "_target_": "monai.transforms.ScaleIntensityRangePercentilesd",
    "lower": 1,
    "upper": 99,
    "b_min": 0,
    "b_max": 1,
}
MEDIAN = {"_target_": "monai.transforms.MedianSmoothd", "radius": 1}
FLIP = {"_target_": "monai.transforms.Flipd", "spatial_axis": 1}
TURN = {"_target_": "monai.transforms.Rotate90d", "k": 1, "spatial_axes": [0, 2]}
PAD = {"_target_": "monai.transforms.DivisiblePadd", "k": 8}
CROP = {"_target_": "monai.transforms.CenterSpatialCropd", "roi_size": [10, 8, 6]}
FOREGROUND = {"_target_": "monai.transforms.CropForegroundd", "source_key": "image", "margin": 1}
ROTATE = {"_target_": "monai.transforms.Rotated", "angle": [0.2, 0.0, 0.0], "keep_size": False}


@pytest.fixture
def own() -> Iterator[None]:
    """Register parts that are forgotten afterwards."""
    before = dict(components._REGISTERED)
    yield
    components._REGISTERED.clear()
    components._REGISTERED.update(before)


def spec(*steps: Step, dims: int = 3, scheme: ChannelNormalization = ZSCORE) -> Preprocessing:
    return Preprocessing(
        spacing_mm=(1.0,) * dims, interpolation=("cubic",) * dims, normalization=(scheme,), steps=steps
    )


def blocks() -> tuple[np.ndarray, np.ndarray]:
    """An image in a frame of zeros with a bright box off its centre, and a label that is 1 in the box."""
    image, label = np.zeros((16, 14, 12), np.float32), np.zeros((16, 14, 12), np.uint8)
    image[1:15, 1:13, 1:11] = np.random.default_rng(0).normal(100, 5, (14, 12, 10))
    label[3:9, 5:11, 2:8] = 1
    image[label == 1] += 200
    return image, label


def test_steps_run_in_their_order_on_the_crop() -> None:
    """Before the normalisation in the file's intensities, after it on what it gives, all before resampling."""
    array, _ = blocks()
    image = Image((array,), Grid.of(array.shape, np.eye(4)))
    crop = torch.from_numpy(array[1:15, 1:13, 1:11].copy())
    scale = ScaleIntensityRangePercentiles(lower=1, upper=99, b_min=0, b_max=1)
    after = network_image(image, spec("normalize", PERCENTILES)).values[0]
    torch.testing.assert_close(after, scale(normalize(crop, ZSCORE)[None])[0].as_tensor())
    before = network_image(image, spec(MEDIAN, "normalize")).values[0]
    torch.testing.assert_close(before, normalize(MedianSmooth(1)(crop[None])[0].as_tensor(), ZSCORE))
    torch.testing.assert_close(network_image(image, spec()).values[0], crop)
    assert not torch.allclose(network_image(image, spec("normalize", MEDIAN, FLIP)).values[0], before)


@pytest.mark.parametrize("step", [FLIP, TURN, PAD, CROP, FOREGROUND, ROTATE], ids=lambda step: step["_target_"][17:])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_the_label_goes_along_and_comes_back(step: dict[str, Any], axes: tuple[int, int, int]) -> None:
    """What moves the image moves its label to the same place, and what is found returns to the file's voxels."""
    array, label = (part.transpose(axes) for part in blocks())
    affine = np.eye(4)[[*np.argsort(axes), 3]]
    image = Image.of(np.ascontiguousarray(array)[None], Grid.of(array.shape, affine))
    wanted = spec("normalize", step)
    require_steps(wanted)
    made, ras = network_image(image, wanted), Image.of(label[None], image.source).channels[0]
    moved = network_label(ras, CroppedImage(image, wanted), (0, 1), None)
    bright = made.values[0] > (0.7 if step is ROTATE else 0.9)  # normalised, the box lies at 2 and all else below 0
    assert moved.shape == made.values.shape[1:] == made.placement.before_resampling
    assert (bright == (moved == 1)).float().mean() > (0.97 if step is ROTATE else 0.9999)
    back = made.restore(moved.to(torch.uint8))
    kept = made.restore(torch.ones_like(moved)) == 1  # voxels that were not cut off
    assert back.dtype == np.uint8
    agreement = (back == label)[kept].mean()
    assert agreement > 0.97 if step is ROTATE else agreement == 1
    assert not back[~kept].any()
    several = made.restore(torch.stack([moved, moved]).float())
    assert several.shape == (2, *label.shape)
    np.testing.assert_array_equal(several[0], back)


def test_two_axes_and_several_channels() -> None:
    """2-D images with two channels go the same way."""
    array = np.random.default_rng(0).random((2, 20, 14)).astype(np.float32) + 1
    wanted = Preprocessing(
        spacing_mm=(1.0, 1.0),
        interpolation=("cubic",) * 2,
        normalization=(ZSCORE,) * 2,
        steps=("normalize", {"_target_": "monai.transforms.SpatialPadd", "spatial_size": [32, 32]}, MEDIAN),
    )
    require_steps(wanted)
    made = network_image(Image.of(array, Grid.of((20, 14), np.eye(4))), wanted)
    assert made.values.shape == (2, 32, 32)
    found = np.random.default_rng(1).integers(0, 3, (20, 14)).astype(np.uint8)
    padded = np.zeros((32, 32), np.uint8)
    padded[6:26, 9:23] = found
    np.testing.assert_array_equal(made.restore(torch.from_numpy(padded)), found)


class Lost(MapTransform):
    """Returns another shape and cannot be undone."""

    def __call__(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**data, "image": data["image"][:, 1:]}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"_target_": "monai.transforms.RandFlipd"}, "is random: it belongs to --augmentation-steps"),
        ({"_target_": "monai.transforms.SaveImaged"}, "none of the transforms in monai.transforms.intensity"),
        ({"_target_": "monai.transforms.Lambdad", "func": "print"}, "none of the transforms in"),
        ({"_target_": "monai.transforms.MedianSmooth"}, "name its dictionary form"),
        ({"_target_": "monai.transforms.Nothingd"}, "no preprocessing class"),
        ({"_target_": "os.system"}, "there is no preprocessing"),
        ({"_target_": "monai.transforms.MedianSmoothd", "radius": "$1"}, "no expressions"),
        ({"_target_": "monai.transforms.MedianSmoothd", "width": 1}, "cannot be built"),
        ({"_target_": "monai.transforms.Zoomd", "zoom": 0.5}, "change the voxel size"),
        ({"_target_": "monai.transforms.Rotated", "angle": 0.3, "mode": "bilinear"}, "mix the classes"),
        ({"_target_": "monai.transforms.HistogramNormalized", "num_bins": 0}, "fails"),
        ("nan", "values that are NaN or infinite"),
        ("lost", "changes the shape and cannot be inverted"),
        ("more", "may change neither channels nor axes"),
        ("dice", "none may be random"),
        ("text", "cannot be called"),
        ("nobody's", "there is no preprocessing"),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_cannot_be_used_is_refused(step: Step, message: str) -> None:
    """In one line, on a dummy image."""
    register("preprocessing", "nan")(lambda: lambda data: {"image": data["image"] / 0})
    register("preprocessing", "more")(lambda: lambda data: {"image": torch.cat([data["image"]] * 2)})
    register("preprocessing", "dice")(lambda: lambda data: {"image": data["image"] + torch.rand(1)})
    register("preprocessing", "lost")(Lost)
    register("preprocessing", "text")(lambda: "text")
    with pytest.raises(ComponentError, match=message) as error:
        require_steps(spec("normalize", step, dims=3))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("own")
def test_own_steps_may_be_functions_and_return_the_image_alone() -> None:
    """An extension's step takes and gives a dictionary; other keys stay as they are."""
    register("preprocessing", "brighter")(lambda by=1.0: lambda data: {**data, "image": data["image"] + by})
    wanted = spec("normalize", {"_target_": "brighter", "by": 2.0})
    require_steps(wanted)
    array, _ = blocks()
    image = Image((array,), Grid.of(array.shape, np.eye(4)))
    torch.testing.assert_close(network_image(image, wanted).values, network_image(image, spec("normalize")).values + 2)


def test_the_order_must_make_sense() -> None:
    """CT's figures were measured without a step before it; nothing is normalised twice."""
    with pytest.raises(ValidationError, match="ct normalises by intensities that were measured without it"):
        spec(MEDIAN, "normalize", scheme=CT)
    spec("normalize", MEDIAN, scheme=CT)
    with pytest.raises(ValidationError, match="2 times"):
        spec("normalize", "normalize")
