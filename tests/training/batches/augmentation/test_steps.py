"""Random transforms of MONAI and of extensions after the package's own: what they get, their draws, what is refused."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from monai.transforms import MapTransform, RandBiasField, RandFlipd, Randomizable
from torch import Tensor

from unetpipe.components import register
from unetpipe.errors import ComponentError
from unetpipe.training.batches.augmentation.augmentation import Augmentation
from unetpipe.training.batches.augmentation.steps import make_step, require_step, seed_of
from unetpipe.training.batches.draws import Draws

PATCH = (12, 10, 8)


def augmented(named: Any, places: tuple[int, ...] = (0, 1, 2), number: int = 0) -> tuple[Tensor, Tensor]:
    """A batch after one step, everything else off."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((3, 2, *PATCH), generator=generator)
    label = (image[:, 0] > 0).to(torch.int16)
    augmentation = Augmentation.of("none", {}, (), 3).model_copy(update={"steps": (make_step(named, PATCH),)})
    chosen = list(places)
    return augmentation(image[chosen], label[chosen], PATCH, Draws(5, number, places))


def test_an_array_transform_gets_the_image_and_the_seed_of_its_sample() -> None:
    """What MONAI's own class gives with that seed; the label stays."""
    image, label = augmented({"_target_": "monai.transforms.RandBiasField", "prob": 1.0, "coeff_range": [0.2, 0.3]})
    before, labels = augmented({"_target_": "monai.transforms.RandBiasField", "prob": 0.0})
    for sample, seed in enumerate(Draws(5, 0, range(3)).seeds):
        oracle = RandBiasField(prob=1.0, coeff_range=(0.2, 0.3)).set_random_state(seed_of(seed, 0))
        assert torch.equal(image[sample], torch.as_tensor(oracle(before[sample])).as_subclass(Tensor))
    assert torch.equal(label, labels)
    assert type(image) is Tensor


@pytest.mark.parametrize("name", ["RandAffined", "Rand3DElasticd", "RandZoomd", "RandFlipd", "RandGridDistortiond"])
def test_transforms_that_move_voxels_move_the_label_along(name: str) -> None:
    """A blob that is 1 in the image and 1 in the label stays on the same voxels in both, and labels stay whole."""
    arguments = {
        "RandAffined": {"rotate_range": [0.5, 0.5, 0.5], "padding_mode": "border"},
        "Rand3DElasticd": {"sigma_range": [2, 3], "magnitude_range": [20, 40]},
        "RandZoomd": {"min_zoom": 1.2, "max_zoom": 1.4},
    }.get(name, {})
    axes = torch.meshgrid(*[torch.arange(20) - 9.5 for _ in range(3)], indexing="ij")
    blob = (sum((axis - 2 * i) ** 2 for i, axis in enumerate(axes)) < 36).float()
    step = make_step({"_target_": f"monai.transforms.{name}", "prob": 1.0} | arguments, (20, 20, 20))
    image, label = step(blob[None], blob, 3)
    assert set(label.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(image[0], blob)
    assert ((image[0] > 0.5) != (label > 0.5)).float().mean() < 0.02


def test_draws_follow_the_sample() -> None:
    """The same sample of the same batch on whichever rank; another batch draws otherwise, and so does a second step."""
    named = {"_target_": "monai.transforms.RandGaussianNoised", "prob": 1.0}
    whole, again, other = augmented(named), augmented(named), augmented(named, number=1)
    assert torch.equal(whole[0], again[0])
    assert not torch.equal(whole[0], other[0])
    part = augmented(named, places=(2,))
    assert torch.equal(part[0][0], whole[0][2])
    assert seed_of(1, 0) != seed_of(1, 1)


def test_a_choice_of_transforms_is_one_step() -> None:
    """MONAI's containers hold definitions, which say their keys themselves."""
    kinds = ["RandGaussianNoised", "RandScaleIntensityd"]
    parts = [{"_target_": f"monai.transforms.{kind}", "keys": "image", "prob": 1.0} for kind in kinds]
    parts[1]["factors"] = 0.5  # type: ignore[assignment]  # a mapping of anything
    step = make_step({"_target_": "monai.transforms.OneOf", "transforms": parts}, PATCH)
    require_step(step, 2, 3, PATCH)
    image = torch.ones((2, *PATCH))
    scaled = [bool((step(image, image[0], seed)[0].std() < 1e-6).item()) for seed in range(20)]
    assert 0 < sum(scaled) < 20


@register("augmentation", "test_shift")
class _Shift(MapTransform, Randomizable):
    """An extension's transform."""

    def __init__(self, keys: Any, largest: float = 1.0) -> None:
        super().__init__(keys)
        self.largest = largest

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        return {**data, "image": data["image"] + self.R.uniform(0, self.largest)}


@register("augmentation", "test_flip")
class _Flip(RandFlipd):
    """An extension's transform that moves voxels."""


@register("augmentation", "test_global")
def _global() -> Any:
    """A function that draws from PyTorch's global generator."""
    return lambda data: {**data, "image": data["image"] + torch.rand(1)}


def test_an_extension_registers_a_transform() -> None:
    """A dictionary transform that draws from self.R, with the arguments of its definition."""
    step = make_step({"_target_": "test_shift", "largest": 0.5}, PATCH)
    require_step(step, 1, 2, PATCH)
    image = torch.zeros((1, *PATCH))
    assert 0 < float(step(image, image[0], 0)[0].max()) < 0.5
    assert set(make_step("test_flip", PATCH).transform.keys) == {"image", "label"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("bias", "there is no augmentation 'bias': expected one of .*monai.transforms"),
        ({"_target_": "monai.transforms.RandBiasFieldd", "degrees": 3}, "RandBiasFieldd cannot be built"),
        ({"_target_": "monai.transforms.ScaleIntensityd"}, "ScaleIntensityd is not random"),
        ({"_target_": "monai.transforms.RandFlip"}, "RandFlip moves voxels: take its dictionary form"),
        ({"_target_": "monai.transforms.RandFlipd", "keys": "image"}, "RandFlipd moves voxels"),
        ({"_target_": "monai.transforms.RandFlipd", "keys": "scan"}, "may have the keys image and label"),
        ({"_target_": "monai.transforms.RandAffined", "rotate_range": 0.3, "mode": "bilinear"}, "between classes"),
        ({"_target_": "monai.transforms.RandSpatialCropd", "roi_size": [4, 4, 4]}, "should keep the shape"),
        ({"_target_": "monai.transforms.RandScaleIntensityd", "factors": 1e39}, "NaN or infinite"),
        ({"_target_": "monai.transforms.RandLambdad", "func": "$eval"}, "plain values, no expressions"),
        ({"_target_": "monai.transforms.LoadImaged", "keys": "image"}, "LoadImaged is not random"),
        ("test_global", "draws other numbers with the same seed"),
    ],
)
def test_what_is_no_augmentation_is_refused(named: Any, message: str) -> None:
    """Before training, in one line."""
    with pytest.raises(ComponentError, match=message) as error:
        require_step(make_step(named, PATCH), 1, 3, PATCH)
    assert "\n" not in str(error.value)
