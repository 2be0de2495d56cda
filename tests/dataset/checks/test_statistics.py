"""Facts of a case against plain numpy, in any memory order."""

from pathlib import Path

import numpy as np
import pytest

from unetpipe.dataset.checks import statistics
from unetpipe.dataset.checks.statistics import (
    channel_statistics,
    content_hash,
    image_hash,
    label_counts,
    signature,
)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("chunk", [7, 1 << 22])
def test_foreground_statistics(monkeypatch: pytest.MonkeyPatch, order: str, chunk: int) -> None:
    """Moments, extremes and quantiles are the foreground's, however the volume is cut and laid out."""
    monkeypatch.setattr(statistics, "_CHUNK", chunk)
    generator = np.random.default_rng(0)
    image = np.array(generator.normal(1000, 50, (9, 8, 7)), order=order)
    label = np.array(generator.integers(0, 4, (9, 8, 7)), dtype=np.uint8, order=order)
    described = channel_statistics(image, label, outside=[0, 3])
    inside = image[(label == 1) | (label == 2)]
    assert described.foreground is not None
    np.testing.assert_allclose(described.foreground.mean, inside.mean())
    np.testing.assert_allclose(described.foreground.std, inside.std(), rtol=1e-6)
    np.testing.assert_allclose(
        described.foreground.quantiles, np.quantile(inside, np.linspace(0, 1, statistics.QUANTILES)), rtol=1e-5
    )
    assert (described.minimum, described.maximum) == (image.min(), image.max())


def test_quantiles_of_a_large_foreground(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evenly spread sample stands for a large foreground; extremes stay exact."""
    monkeypatch.setattr(statistics, "QUANTILE_SAMPLE", 1000)
    monkeypatch.setattr(statistics, "_CHUNK", 777)
    image = np.random.default_rng(0).permutation(20_000).astype(np.float32)
    described = channel_statistics(image, np.ones(20_000, dtype=np.uint8), outside=[0])
    assert described.foreground is not None
    quantiles = np.array(described.foreground.quantiles)
    assert (quantiles[0], quantiles[-1]) == (0, 19_999)
    assert np.abs(quantiles / 20_000 - np.linspace(0, 1, statistics.QUANTILES)).max() < 0.05


def test_integers_do_not_overflow() -> None:
    """Sums over large integer intensities are exact."""
    image = np.full((100, 100), 32_000, dtype=np.int16)
    described = channel_statistics(image, np.ones((100, 100), dtype=np.uint8), outside=[0])
    assert described.foreground is not None
    assert (described.foreground.mean, described.foreground.std) == (32_000, 0)


def test_empty_label_has_no_foreground() -> None:
    """A channel without foreground voxels has no foreground statistics."""
    assert channel_statistics(np.ones((3, 3)), np.zeros((3, 3), dtype=np.uint8), outside=[0]).foreground is None


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64])
def test_label_counts(dtype: type) -> None:
    """Every value is counted, whatever type it is stored in."""
    label = np.array([[0], [0], [3], [1], [3], [3], [255]], dtype=np.float64).astype(dtype)
    assert label_counts(label) == {0: 2, 1: 1, 3: 3, 255: 1}


def test_negative_and_large_label_values() -> None:
    """Values outside the usual range are counted too."""
    assert label_counts(np.array([-2, 5000, 5000], dtype=np.int32)) == {-2: 1, 5000: 2}


@pytest.mark.parametrize("value", [0.5, 1e12])
def test_labels_must_be_integers(value: float) -> None:
    """A fraction, and a number beyond any label, is no label map."""
    assert label_counts(np.array([0.0, 1.0, value])) is None


def test_image_hash_is_of_values() -> None:
    """Stored type and memory order make no difference; one voxel does."""
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    same = image_hash([array])
    assert image_hash([array.astype(np.float64)]) == same
    changed = array.copy()
    changed[0, 0, 0] = 1
    assert image_hash([changed]) != same


@pytest.mark.parametrize("shape", [(64, 80, 48), (5, 3, 1), (100, 40)])
def test_signature(shape: tuple[int, ...]) -> None:
    """It is small whatever the shape, and neither brightness nor contrast matters."""
    array = np.random.default_rng(0).normal(0, 1, shape)
    found = signature(array)
    assert len(found) == np.prod([min(8, n) for n in shape])
    np.testing.assert_allclose(signature(array * 7 + 100), found, atol=1)


def test_content_hash(tmp_path: Path) -> None:
    """It follows bytes and names within a folder, not time stamps."""
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").write_bytes(b"one")
    (tmp_path / "a.nii").write_bytes(b"two")
    files = [tmp_path / "series", tmp_path / "a.nii"]
    first = content_hash(files)
    (tmp_path / "a.nii").write_bytes(b"two")
    assert content_hash(files) == first
    (tmp_path / "series" / "2.dcm").write_bytes(b"")
    assert content_hash(files) != first
