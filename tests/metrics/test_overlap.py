"""Voxel counts and what follows from them."""

import numpy as np
import pytest

from unetpipe.metrics import overlap as module
from unetpipe.metrics.overlap import Overlap, joint_histogram, overlaps


def test_half_shifted_cube() -> None:
    """Two 10 mm cubes shifted by half: Dice 1/2, IoU 1/3, sensitivity and precision 1/2."""
    reference, prediction = np.zeros((20, 10, 10), np.uint8), np.zeros((20, 10, 10), np.uint8)
    reference[:10], prediction[5:15] = 1, 1
    counts = overlaps(joint_histogram(reference, prediction, 2))[1]
    assert counts == Overlap(both=500, reference=1000, prediction=1000)
    assert (counts.dice, counts.iou, counts.sensitivity, counts.precision) == pytest.approx(
        (1 / 2, 1 / 3, 1 / 2, 1 / 2)
    )


def test_all_classes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The joint histogram counts every pair of classes, whatever the chunks and the memory layout."""
    monkeypatch.setattr(module, "_CHUNK_VOXELS", 100)
    random = np.random.default_rng(0)
    reference, prediction = (random.integers(0, 5, (7, 9, 11)).astype(np.int16) for _ in range(2))
    expected = [[np.sum((reference == r) & (prediction == p)) for p in range(5)] for r in range(5)]
    np.testing.assert_array_equal(joint_histogram(reference, prediction, 5), expected)
    np.testing.assert_array_equal(joint_histogram(np.asfortranarray(reference), prediction, 5), expected)


def test_shapes_must_agree() -> None:
    """Arrays of different shape are refused, both shapes named."""
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        joint_histogram(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)


def test_empty_gives_nan_not_one() -> None:
    """Nothing in either mask is not a perfect score."""
    empty = Overlap(both=0, reference=0, prediction=0)
    assert np.isnan([empty.dice, empty.iou, empty.sensitivity, empty.precision]).all()
