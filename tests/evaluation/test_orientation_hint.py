"""Predictions that were saved turned round are recognised by their voxels."""

from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from unetpipe.evaluation.orientation_hint import find_turn, orientation_hint
from unetpipe.imaging.geometry import Orientation


def lump(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Two boxes off the centre, without any symmetry."""
    label = np.zeros(shape, np.uint8)
    size = np.array(shape)
    first = tuple(slice(int(a), int(b)) for a, b in zip(size * 0.1, size * 0.45, strict=True))
    label[first] = 1
    second = tuple(slice(int(n * a), int(n * (a + 0.15))) for n, a in zip(shape, (0.35, 0.5, 0.15), strict=False))
    label[second] = 2
    return label


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((False, True), repeat=3)))
def test_every_orientation_is_found(axes: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    """Whichever way a mask was turned, what turns it back is found, or it covers its reference well enough."""
    label, order = lump((40, 40, 40)), Orientation(axes=axes, flips=flips)
    turned = order.from_ras(label)
    found = find_turn(label, turned)
    if found is None:
        both = np.count_nonzero((label != 0) & (turned != 0))
        assert both / np.count_nonzero(label) > 0.5
    else:
        np.testing.assert_array_equal(found.orientation.to_ras(turned), label)
        assert found.dice == pytest.approx(1, abs=0.1)


def test_a_mirror_image_that_overlaps_is_found() -> None:
    """A structure near the middle covers part of its reference when mirrored; turning it back covers all."""
    label = np.zeros((40, 30, 20), np.uint8)
    label[12:22, 8:20, 5:15] = 1
    assert np.count_nonzero(label & label[::-1]) / np.count_nonzero(label) == pytest.approx(0.4)
    found = find_turn(label, label[::-1])
    assert found is not None
    assert found.orientation == Orientation((0, 1, 2), (True, False, False))


def kidneys() -> NDArray[np.uint8]:
    """Two classes of which one is where the other is in the mirror."""
    label = np.zeros((40, 30, 20), np.uint8)
    label[5:12, 10:20, 5:15] = 1
    label[28:35, 10:20, 5:15] = 2
    return label


@pytest.mark.parametrize("extra", [0, 3])
def test_paired_organs_are_mirrored(extra: int) -> None:
    """Their foregrounds cover each other as they are, and their classes do not; a further class changes nothing."""
    label = kidneys()
    found = find_turn(label, np.where(label[::-1] == 0, extra, label[::-1]))
    assert found is not None
    assert found.orientation == Orientation((0, 1, 2), (True, False, False))
    assert find_turn(label, np.where(label == 0, extra, label)) is None


def test_classes_that_are_numbered_otherwise_are_not_turned() -> None:
    """Where one organ is larger, its mirror image covers the other less than what has the wrong number."""
    label = kidneys()
    label[5:12, 20:22, 5:15] = 1
    found = find_turn(label, label[::-1])
    assert found is not None
    assert found.orientation == Orientation((0, 1, 2), (True, False, False))
    assert find_turn(label, np.array([0, 2, 1], np.uint8)[label]) is None


def test_without_a_shared_value_foregrounds_are_compared() -> None:
    """A mask as 0/255 lies as its reference in 0/1 does, or is turned."""
    label = (lump((40, 40, 40)) != 0).astype(np.uint8)
    assert find_turn(label, label * np.uint8(255)) is None
    found = find_turn(label, label[:, ::-1] * np.uint8(255))
    assert found is not None
    assert found.orientation == Orientation((0, 1, 2), (False, True, False))


def test_a_poor_prediction_that_turning_hardly_helps_is_poor() -> None:
    """A structure that lies half beside its reference does so in every orientation."""
    label = np.zeros((40, 40, 40), np.uint8)
    label[10:30, 10:30, 10:30] = 1
    shifted = np.zeros_like(label)
    shifted[18:38, 12:32, 12:32] = 1
    assert find_turn(label, shifted) is None


@pytest.mark.parametrize("shape", [(70, 45, 33), (50, 31), (5, 200, 9)])
def test_flips_on_any_shape(shape: tuple[int, ...]) -> None:
    """Blocks of uneven shapes are flipped onto each other."""
    label = lump(shape)
    found = find_turn(label, np.flip(label))
    assert found is not None
    assert found.orientation == Orientation(tuple(range(len(shape))), (True,) * len(shape))
    assert found.dice > 0.8


def test_what_is_simply_wrong_has_no_turn() -> None:
    """Nothing is said of a good prediction, an empty one, an empty reference, or one that no turning mends."""
    label = lump((40, 40, 40))
    assert find_turn(label, label) is None
    assert find_turn(label, np.zeros_like(label)) is None
    assert find_turn(np.zeros_like(label), label) is None
    other = np.zeros_like(label)
    other[17:23, 17:23, 17:23] = 1
    assert find_turn(label, other) is None


def test_the_hint_is_of_a_model() -> None:
    """It needs one orientation that explains a quarter of the predictions, and says which."""
    label = lump((40, 40, 40))
    turned = find_turn(label, label[:, ::-1, ::-1])
    text = orientation_hint("m", [turned, turned, None])
    assert text is not None
    assert text.startswith("2 of 3 predictions of m miss their reference")
    assert "the second and third axis reversed" in text
    swapped = orientation_hint("m", [find_turn(label, label.transpose(2, 1, 0)[::-1])])
    assert swapped is None or "axes in the order third, second, first" in swapped
    assert orientation_hint("m", [turned, None, None, None, None]) is None
    assert orientation_hint("m", []) is None
