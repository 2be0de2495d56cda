"""Bounding boxes against numpy's own indices."""

import numpy as np
import pytest

from unetpipe.imaging.boxes import class_boxes, mask_box, nonzero_box, union


def test_the_nonzero_box_is_that_of_all_channels() -> None:
    """It holds what differs from 0 in some channel; an image of zeros is kept whole."""
    first, second = np.zeros((6, 7, 8)), np.zeros((6, 7, 8))
    first[2, 3, 4] = 1
    second[4, 3, 1] = -1
    assert nonzero_box([first, second]) == ((2, 3, 1), (5, 4, 5))
    assert nonzero_box([np.zeros((6, 7))]) == ((0, 0), (6, 7))


@pytest.mark.parametrize("shape", [(9, 7, 5), (12, 10), (1, 1, 6)])
def test_the_box_of_a_mask_is_that_of_its_indices(shape: tuple[int, ...]) -> None:
    """Least and greatest index along each axis, whatever way the array lies in memory; nothing has no box."""
    mask = np.random.default_rng(0).random(shape) > 0.9
    mask.flat[mask.size // 2] = True
    where = np.argwhere(mask)
    expected = tuple(slice(int(a), int(b) + 1) for a, b in zip(where.min(0), where.max(0), strict=True))
    assert mask_box(mask) == mask_box(np.asfortranarray(mask)) == expected
    assert mask_box(np.zeros(shape, bool)) is None


def test_boxes_of_classes_and_their_union() -> None:
    """One box per class, None for one that does not occur; a union holds both, and None adds nothing."""
    labels = np.zeros((5, 6), np.uint8)
    labels[1:3, 2] = 1
    labels[4, 5] = 3
    boxes = class_boxes(labels, 3)
    assert boxes == [(slice(1, 3), slice(2, 3)), None, (slice(4, 5), slice(5, 6))]
    assert union(boxes[0], boxes[2]) == (slice(1, 5), slice(2, 6))
    assert union(boxes[1], boxes[2]) == union(boxes[2], boxes[1]) == boxes[2]
    assert union(None, None) is None
