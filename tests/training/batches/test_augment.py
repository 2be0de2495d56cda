"""Augmentation against the definition of each transform."""

import math

import pytest
import torch
from torch import Tensor

from unetpipe.training.batches.augment import Augmentation, augment, planes_of_rotation, source_shape
from unetpipe.training.batches.draws import Draws

_OFF = dict.fromkeys(
    (
        "rotation",
        "scaling",
        "noise",
        "blur",
        "brightness",
        "contrast",
        "low_resolution",
        "inverted_gamma",
        "gamma",
        "mirror",
    ),
    0.0,
)


def only(**settings: object) -> Augmentation:
    """Every operation off but those given."""
    return Augmentation.model_validate(_OFF | settings)


def apply(image: Tensor, settings: Augmentation, label: Tensor | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    label = torch.zeros(image.shape[0], *image.shape[2:], dtype=torch.int16) if label is None else label
    return augment(image, label, tuple(image.shape[2:]), settings, Draws(seed, 0, range(len(image))))


@pytest.fixture
def image() -> Tensor:
    return torch.randn(4, 2, 12, 10, 8, generator=torch.Generator().manual_seed(5))


def test_nothing_is_changed_when_everything_is_off(image: Tensor) -> None:
    """With all probabilities 0 the middle of the image comes back bit by bit."""
    label = torch.zeros(4, 12, 10, 8, dtype=torch.int16)
    out, _ = augment(image, label, (8, 10, 6), only(), Draws(0, 0, range(4)))
    assert torch.equal(out, image[:, :, 2:10, :, 1:7])


def test_same_seed_same_batch(image: Tensor) -> None:
    """All randomness comes from the draws."""
    first, second = apply(image, Augmentation(), seed=3)[0], apply(image, Augmentation(), seed=3)[0]
    assert torch.equal(first, second)
    assert not torch.equal(first, apply(image, Augmentation(), seed=4)[0])


def test_a_sample_is_augmented_alike_in_whichever_part_of_the_batch_it_is(image: Tensor) -> None:
    """Two ranks that hold samples 0 and 2, 1 and 3 of a batch get, together, what one process gets for all four."""
    label = (image[:, 0] > 0).to(torch.int16)
    often = Augmentation(**dict.fromkeys(_OFF, 0.7))
    whole = augment(image, label, (8, 8, 8), often, Draws(3, 5, range(4)))
    for places in (range(0, 4, 2), range(1, 4, 2)):
        part = augment(image[places], label[places], (8, 8, 8), often, Draws(3, 5, places))
        assert all(torch.allclose(own, all_of[places], atol=1e-5) for own, all_of in zip(part, whole, strict=True))


def test_mirror_flips_image_and_label_alike(image: Tensor) -> None:
    """With probability 1 every axis is reversed, in image and label."""
    label = (image[:, 0] > 0).to(torch.int16)
    out, flipped = apply(image, only(mirror=1.0), label)
    assert torch.equal(out, image.flip(2, 3, 4))
    assert torch.equal(flipped, label.flip(1, 2, 3).float())


@pytest.mark.parametrize("shape", [(24, 24, 24), (24, 24)])
def test_label_follows_image_through_rotation_and_scaling(shape: tuple[int, ...]) -> None:
    """A blob that is 1 in the image and 1 in the label stays on the same voxels in both."""
    axes = torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    blob = (sum((axis - 2 * i) ** 2 for i, axis in enumerate(axes)) < 36).float()
    images = blob.expand(8, 1, *shape)
    out, label = apply(images, only(rotation=1.0, scaling=1.0, mirror=0.5), blob.expand(8, *shape).to(torch.int16))
    assert not torch.equal(out, images)
    disagreement = ((out[:, 0] > 0.5) != (label > 0.5)).float().mean()
    assert disagreement < 0.01
    assert label.sum() > 0


def test_rotation_keeps_distances_from_the_centre() -> None:
    """A point 3 voxels from the centre of a 2-D patch is 3 voxels from it after any rotation."""
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 7] = 1.0
    out, _ = apply(image, only(rotation=1.0), seed=1)
    centre = torch.stack(torch.meshgrid(torch.arange(9) - 4.0, torch.arange(9) - 4.0, indexing="ij"))
    position = (centre * out[0, 0]).sum((1, 2)) / out.sum()
    assert float(position.norm()) == pytest.approx(3.0, abs=0.25)


def test_scaling_enlarges_by_its_factor() -> None:
    """A cube of side 8 under a zoom of 1.4 has a side of 11.2."""
    image = torch.zeros(1, 1, 24, 24, 24)
    image[..., 8:16, 8:16, 8:16] = 1.0
    out, _ = apply(image, only(scaling=1.0, scales=(1.4, 1.4)))
    assert float(out.sum()) ** (1 / 3) == pytest.approx(11.2, abs=0.4)


def test_thin_patches_rotate_in_their_plane_only() -> None:
    """A patch more than three times longer than thick keeps its slices."""
    assert planes_of_rotation((64, 64, 16)) == [(0, 1)]
    assert planes_of_rotation((64, 64, 32)) == [(0, 1), (0, 2), (1, 2)]
    assert source_shape((64, 64, 16), Augmentation())[2] == 16
    image = torch.arange(4.0).repeat(32, 32, 1)[None, None]
    out, _ = apply(image, only(rotation=1.0, scaling=1.0), seed=2)
    middle = out[0, 0, 12:20, 12:20]
    assert torch.allclose(middle, torch.arange(4.0).expand_as(middle), atol=1e-4)


def test_source_covers_a_rotated_patch() -> None:
    """The patch's box rotated by 30 degrees, over the mean of 1 and the smallest zoom, and as much on both sides."""
    grown = source_shape((40, 40, 40), Augmentation())
    box = 40 * (math.cos(math.radians(30)) + math.sin(math.radians(30)))
    assert grown == (2 * math.ceil(box / 0.85 / 2),) * 3


@pytest.mark.parametrize("patch", [(40, 56, 40), (15, 24, 17)])
def test_a_sample_that_is_not_turned_is_cut_though_others_are(patch: tuple[int, ...]) -> None:
    """Image and label are those in the middle of the source, neither blurred nor moved by half a voxel."""
    settings = only(rotation=0.5)
    source = source_shape(patch, settings)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((6, 1, *source), generator=generator)
    label = torch.randint(0, 3, (6, *source), generator=generator)
    out, cut = augment(image, label, patch, settings, Draws(1, 0, range(6)))
    middle = tuple(slice((n - p) // 2, (n - p) // 2 + p) for n, p in zip(source, patch, strict=True))
    same = [bool(torch.equal(a.long(), b[middle])) for a, b in zip(cut, label, strict=True)]
    assert 0 < sum(same) < 6
    assert same == [torch.allclose(a[0], b[0][middle], atol=1e-3) for a, b in zip(out, image, strict=True)]


def test_noise_has_the_drawn_variance() -> None:
    """The difference is white, its variance between 0 and the largest."""
    flat = torch.zeros(6, 1, 32, 32, 32)
    out, _ = apply(flat, only(noise=1.0, noise_variance=0.1))
    variances = out.var(dim=(1, 2, 3, 4))
    assert float(variances.max()) <= 0.1 * 1.05
    assert len({round(float(v), 6) for v in variances}) == 6


def test_blur_is_the_gaussian_of_scipy() -> None:
    """One sigma for all: equal to scipy.ndimage.gaussian_filter with edges continued."""
    from scipy.ndimage import gaussian_filter

    image = torch.randn(1, 1, 11, 9, 7, generator=torch.Generator().manual_seed(1))
    out, _ = apply(image, only(blur=1.0, blur_sigma=(0.8, 0.8)))
    oracle = gaussian_filter(image[0, 0].numpy(), 0.8, mode="nearest", radius=3)
    assert torch.allclose(out[0, 0], torch.from_numpy(oracle), atol=1e-5)


def test_brightness_multiplies(image: Tensor) -> None:
    """Each sample is scaled by one factor in range."""
    out, _ = apply(image, only(brightness=1.0))
    ratio = (out / image).flatten(1)
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), atol=1e-4)
    assert bool(((ratio >= 0.75 - 1e-4) & (ratio <= 1.25 + 1e-4)).all())


def test_contrast_keeps_mean_and_range(image: Tensor) -> None:
    """Voxels move to or from their channel's mean and stay within the range that was there."""
    out, _ = apply(image, only(contrast=1.0, contrast_factor=(0.75, 0.75)))
    mean = image.mean((2, 3, 4), keepdim=True)
    assert torch.allclose(out, (image - mean) * 0.75 + mean, atol=1e-5)
    wide, _ = apply(image, only(contrast=1.0, contrast_factor=(1.25, 1.25)))
    assert torch.equal(wide.amax((2, 3, 4)), image.amax((2, 3, 4)))


@pytest.mark.parametrize("operation", ["gamma", "inverted_gamma"])
def test_gamma_keeps_mean_and_deviation(image: Tensor, operation: str) -> None:
    """Only the shape of the histogram changes, monotonically."""
    out, _ = apply(image, only(**{operation: 1.0}))
    assert torch.allclose(out.mean((2, 3, 4)), image.mean((2, 3, 4)), atol=1e-4)
    assert torch.allclose(out.std((2, 3, 4)), image.std((2, 3, 4)), atol=1e-4)
    assert torch.equal(out[0, 0].flatten().argsort(), image[0, 0].flatten().argsort())
    assert not torch.allclose(out, image, atol=1e-2)


def test_low_resolution_loses_detail_and_keeps_the_rest() -> None:
    """White noise loses variance; a linear ramp stays where it was."""
    noise = torch.randn(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(4))
    settings = only(low_resolution=1.0, low_resolution_zoom=(0.5, 0.5))
    assert float(apply(noise, settings)[0].std()) < 0.8
    ramp = torch.arange(24.0).expand(1, 1, 24, 24, 24)
    out, _ = apply(ramp, settings)
    assert torch.allclose(out[..., 3:-3], ramp[..., 3:-3], atol=1.01)


def test_default_probabilities_are_met() -> None:
    """Over many samples, as many change in brightness alone as the probability says."""
    image = torch.ones(2000, 1, 2, 2)
    out, _ = apply(image, only(brightness=0.15))
    share = (out != 1).flatten(1).any(1).float().mean()
    assert float(share) == pytest.approx(0.15, abs=0.03)


def test_presets_scale_how_often_and_not_how_much() -> None:
    """Strong: half as often again; none: the patch is cut from the middle and left as it is."""
    published, strong = Augmentation.preset("default", (0, 1)), Augmentation.preset("strong", (0, 1))
    assert published == Augmentation(mirror_axes=(0, 1))
    assert strong.gamma == pytest.approx(1.5 * published.gamma)
    assert (strong.gamma_exponent, strong.mirror) == (published.gamma_exponent, published.mirror)
    image = torch.randn((3, 2, 12, 12, 12), generator=torch.Generator().manual_seed(0))
    label = torch.zeros((3, 12, 12, 12))
    for seed in range(20):
        draws = Draws(seed, 0, range(3))
        out, _ = augment(image, label, (8, 8, 8), Augmentation.preset("none", (0, 1, 2)), draws)
        assert torch.equal(out, image[:, :, 2:10, 2:10, 2:10])
