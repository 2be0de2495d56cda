"""Blur and low resolution against their definitions."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from unetpipe.training.batches.augmentation.sharpness import Blur, LowResolution
from unetpipe.training.batches.draws import Draws


def test_blur_is_the_gaussian_of_scipy() -> None:
    """One sigma for all: equal to scipy.ndimage.gaussian_filter with edges continued."""
    image = torch.randn(1, 1, 11, 9, 7, generator=torch.Generator().manual_seed(1))
    out = Blur(probability=1, sigma=(0.8, 0.8))(image, Draws(0, 0, range(1)))
    oracle = gaussian_filter(image[0, 0].numpy(), 0.8, mode="nearest", radius=3)
    assert torch.allclose(out[0, 0], torch.from_numpy(oracle), atol=1e-5)


def test_low_resolution_loses_detail_and_keeps_the_rest() -> None:
    """White noise loses variance; a linear ramp stays where it was."""
    noise = torch.randn(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(4))
    halved = LowResolution(probability=1, zoom=(0.5, 0.5))
    assert float(halved(noise, Draws(0, 0, range(1))).std()) < 0.8
    ramp = torch.arange(24.0).expand(1, 1, 24, 24, 24)
    out = halved(ramp, Draws(0, 0, range(1)))
    assert torch.allclose(out[..., 3:-3], ramp[..., 3:-3], atol=1.01)


def test_thin_patches_keep_their_slices() -> None:
    """Resolution is lost in the plane, where the label has it too, and not across slices."""
    slices = torch.randn(6, generator=torch.Generator().manual_seed(0)).expand(1, 1, 32, 32, 6)
    out = LowResolution(probability=1, zoom=(0.5, 0.5))(slices, Draws(0, 0, range(1)))
    assert torch.allclose(out, slices)


@pytest.mark.parametrize("kind", [Blur, LowResolution])
def test_channels_are_chosen_one_by_one(kind: type[Blur] | type[LowResolution]) -> None:
    """Of two channels, a quarter of the samples has both changed; an only channel is always changed."""
    image = torch.randn(400, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    transform = kind(probability=1, **({"zoom": (0.5, 0.5)} if kind is LowResolution else {}))
    changed = (transform(image, Draws(0, 0, range(400))) != image).flatten(2).any(2)
    assert float(changed.all(1).float().mean()) == pytest.approx(0.25, abs=0.08)
    assert float(changed.float().mean()) == pytest.approx(0.5, abs=0.08)
    assert bool((transform(image[:, :1], Draws(0, 0, range(400))) != image[:, :1]).flatten(1).any(1).all())
