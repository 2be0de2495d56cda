"""Noise, brightness, contrast and gamma against their definitions."""

import pytest
import torch
from torch import Tensor

from unetpipe.training.batches.augmentation.intensity import Brightness, Contrast, Gamma, InvertedGamma, Noise
from unetpipe.training.batches.draws import Draws


@pytest.fixture
def image() -> Tensor:
    return torch.randn(4, 2, 12, 10, 8, generator=torch.Generator().manual_seed(5))


def test_noise_has_the_drawn_variance() -> None:
    """The difference is white, its variance between the ends of the range, another one for each sample."""
    out = Noise(probability=1, variance=(0.05, 0.1))(torch.zeros(6, 1, 32, 32, 32), Draws(0, 0, range(6)))
    variances = out.var(dim=(1, 2, 3, 4))
    assert 0.05 * 0.95 <= float(variances.min()) < float(variances.max()) <= 0.1 * 1.05
    assert len({round(float(v), 6) for v in variances}) == 6


def test_brightness_multiplies(image: Tensor) -> None:
    """Each channel of a sample is scaled by one factor in range, and the channels by factors of their own."""
    ratio = (Brightness(probability=1)(image, Draws(0, 0, range(4))) / image).flatten(2)
    assert torch.allclose(ratio, ratio[:, :, :1].expand_as(ratio), atol=1e-4)
    assert image.shape[1] > 1
    assert not torch.allclose(ratio[:, 0], ratio[:, 1], atol=1e-3)
    assert bool(((ratio >= 0.75 - 1e-4) & (ratio <= 1.25 + 1e-4)).all())


def test_contrast_keeps_mean_and_range(image: Tensor) -> None:
    """Voxels move to or from their channel's mean and stay within the range that was there."""
    out = Contrast(probability=1, factor=(0.75, 0.75))(image, Draws(0, 0, range(4)))
    mean = image.mean((2, 3, 4), keepdim=True)
    assert torch.allclose(out, (image - mean) * 0.75 + mean, atol=1e-5)
    wide = Contrast(probability=1, factor=(1.25, 1.25))(image, Draws(0, 0, range(4)))
    assert torch.equal(wide.amax((2, 3, 4)), image.amax((2, 3, 4)))


@pytest.mark.parametrize("kind", [Gamma, InvertedGamma])
def test_gamma_keeps_mean_and_deviation(image: Tensor, kind: type[Gamma]) -> None:
    """Only the shape of the histogram changes, monotonically."""
    out = kind(probability=1)(image, Draws(0, 0, range(4)))
    assert torch.allclose(out.mean((2, 3, 4)), image.mean((2, 3, 4)), atol=1e-4)
    assert torch.allclose(out.std((2, 3, 4)), image.std((2, 3, 4)), atol=1e-4)
    assert torch.equal(out[0, 0].flatten().argsort(), image[0, 0].flatten().argsort())
    assert not torch.allclose(out, image, atol=1e-2)


def test_inverted_gamma_is_gamma_of_the_negative(image: Tensor) -> None:
    """As is said."""
    draws = [Draws(0, 0, range(4)) for _ in range(2)]
    expected = -Gamma(probability=1)(-image, draws[0])
    assert torch.equal(InvertedGamma(probability=1)(image, draws[1]), expected)


def test_default_probabilities_are_met() -> None:
    """Over many samples, as many change as the probability says."""
    image = torch.ones(2000, 1, 2, 2)
    out = Brightness()(image, Draws(0, 0, range(2000)))
    assert float((out != 1).flatten(1).any(1).float().mean()) == pytest.approx(0.15, abs=0.03)
