"""Voxel counts and what follows from them."""

import numpy as np
import pytest

from unetpipe.metrics import overlap as module
from unetpipe.metrics.overlap import Overlap, joint_histogram, mean_dice, overlaps


def test_half_shifted_cube() -> None:
    """Two 10 mm cubes shifted by half: Dice 1/2, IoU 1/3, sensitivity and precision 1/2."""
    reference, prediction = np.zeros((20, 10, 10), np.uint8), np.zeros((20, 10, 10), np.uint8)
    reference[:10], prediction[5:15] = 1, 1
    (counts,) = overlaps(joint_histogram(reference, prediction, 2), [(1,)])
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


def test_what_is_to_be_ignored_is_not_counted() -> None:
    """Voxels where the reference is negative count for no class, of neither array."""
    reference = np.array([[-1, 0, 1], [1, -1, 2]], np.int8)
    prediction = np.array([[1, 0, 1], [2, 2, 2]], np.uint8)
    np.testing.assert_array_equal(joint_histogram(reference, prediction, 3), [[1, 0, 0], [0, 1, 1], [0, 0, 1]])


def test_a_structure_may_consist_of_several_classes() -> None:
    """The overlap of a union of classes is that of the two masks of their union."""
    random = np.random.default_rng(0)
    reference, prediction = (random.integers(0, 4, (6, 7, 8)).astype(np.uint8) for _ in range(2))
    structures = [(1, 3), (2,), (1, 2, 3)]
    found = overlaps(joint_histogram(reference, prediction, 4), structures)
    for members, overlap in zip(structures, found, strict=True):
        assert overlap == Overlap.of(np.isin(reference, members), np.isin(prediction, members))


def test_mean_dice_leaves_out_cases_without_the_structure() -> None:
    """Both empty does not count; a structure that no case has gets None."""
    half, empty = Overlap(both=1, reference=2, prediction=2), Overlap(both=0, reference=0, prediction=0)
    missed = Overlap(both=0, reference=3, prediction=0)
    assert mean_dice([(half, empty), (missed, empty), (empty, empty)]) == [0.25, None]


def test_shapes_must_agree() -> None:
    """Arrays of different shape are refused, both shapes named."""
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        joint_histogram(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)


def test_empty_gives_nan_not_one() -> None:
    """Nothing in either mask is not a perfect score."""
    empty = Overlap(both=0, reference=0, prediction=0)
    assert np.isnan([empty.dice, empty.iou, empty.sensitivity, empty.precision]).all()
