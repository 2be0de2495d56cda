"""Intensities of a channel against plain numpy, in any memory order."""

import numpy as np
import pytest

from unetpipe.dataset.checks import intensities
from unetpipe.dataset.checks.intensities import channel_statistics


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("chunk", [7, 1 << 22])
def test_foreground_statistics(monkeypatch: pytest.MonkeyPatch, order: str, chunk: int) -> None:
    """Moments, extremes and quantiles are the foreground's, however the volume is cut and laid out."""
    monkeypatch.setattr(intensities, "_CHUNK", chunk)
    generator = np.random.default_rng(0)
    image = np.array(generator.normal(1000, 50, (9, 8, 7)), order=order)
    label = np.array(generator.integers(0, 4, (9, 8, 7)), dtype=np.uint8, order=order)
    described = channel_statistics(image, label, outside=[0, 3])
    inside = image[(label == 1) | (label == 2)]
    assert described.foreground is not None
    np.testing.assert_allclose(described.foreground.mean, inside.mean())
    np.testing.assert_allclose(described.foreground.std, inside.std(), rtol=1e-6)
    np.testing.assert_allclose(
        described.foreground.quantiles, np.quantile(inside, np.linspace(0, 1, intensities.QUANTILES)), rtol=1e-5
    )
    assert (described.minimum, described.maximum) == (image.min(), image.max())


def test_quantiles_of_a_large_foreground(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evenly spread sample stands for a large foreground; extremes stay exact."""
    monkeypatch.setattr(intensities, "QUANTILE_SAMPLE", 1000)
    monkeypatch.setattr(intensities, "_CHUNK", 777)
    image = np.random.default_rng(0).permutation(20_000).astype(np.float32)
    described = channel_statistics(image, np.ones(20_000, dtype=np.uint8), outside=[0])
    assert described.foreground is not None
    quantiles = np.array(described.foreground.quantiles)
    assert (quantiles[0], quantiles[-1]) == (0, 19_999)
    assert np.abs(quantiles / 20_000 - np.linspace(0, 1, intensities.QUANTILES)).max() < 0.05


def test_integers_do_not_overflow() -> None:
    """Sums over large integer intensities are exact."""
    image = np.full((100, 100), 32_000, dtype=np.int16)
    described = channel_statistics(image, np.ones((100, 100), dtype=np.uint8), outside=[0])
    assert described.foreground is not None
    assert (described.foreground.mean, described.foreground.std) == (32_000, 0)


def test_empty_label_has_no_foreground() -> None:
    """A channel without foreground voxels has no foreground statistics."""
    assert channel_statistics(np.ones((3, 3)), np.zeros((3, 3), dtype=np.uint8), outside=[0]).foreground is None


def test_the_whole_image_is_sampled_evenly() -> None:
    """Mean, deviation and percentiles of an image of many voxels are those of all of them, to within the sampling."""
    image = np.random.default_rng(0).normal(40, 15, (150, 140, 130)).astype(np.float32)
    found = channel_statistics(image, np.zeros(image.shape, dtype=np.uint8), outside=[0]).image
    expected = (image.mean(), image.std(), *np.percentile(image, [0.5, 99.5]))
    np.testing.assert_allclose(
        (found.mean, found.std, found.percentile_00_5, found.percentile_99_5), expected, atol=0.5
    )


@pytest.mark.parametrize(("other", "binary"), [(None, True), (7, False), (0, True)])
def test_a_mask_is_recognised(other: int | None, binary: bool) -> None:
    """An image of zeros and one other value is binary; one voxel of a third value, wherever it is, makes it none."""
    image = np.zeros((200, 130, 10), dtype=np.int16)
    image[50:100] = 3
    if other is not None:
        image[61, 7, 3] = other
    assert channel_statistics(image, np.zeros(image.shape, np.uint8), outside=[0]).binary is binary
