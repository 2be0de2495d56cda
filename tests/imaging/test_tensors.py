"""Arrays of any type and strides as tensors."""

import numpy as np
import pytest
import torch

from unetpipe.imaging.tensors import contiguous, image_type, label_type


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (np.uint8, torch.uint8),
        (np.int16, torch.int16),
        (np.uint16, torch.float32),  # torch hardly computes with it
        (np.int32, torch.float32),
        (np.float32, torch.float32),
        (np.float64, torch.float32),
    ],
)
def test_images_keep_a_smaller_type(stored: type, read: torch.dtype) -> None:
    """A CT of int16 does not double in memory; what is larger than float32 becomes that."""
    array = np.random.default_rng(0).integers(0, 120, (9, 8, 6)).astype(stored)
    tensor = contiguous(array, image_type(array.dtype))
    assert tensor.dtype == read
    assert np.array_equal(tensor.numpy(), array)


@pytest.mark.parametrize(("stored", "read"), [(np.uint8, np.uint8), (np.uint16, np.int32), (np.uint32, np.int64)])
def test_labels_become_types_that_torch_has(stored: type, read: type) -> None:
    """Unsigned types of several bytes grow, so that no value changes; all others stay."""
    assert label_type(np.dtype(stored)) == read
    assert label_type(np.dtype(np.int16)) == np.int16


def test_any_strides_come_out_contiguous() -> None:
    """Flipped, permuted and cropped views are copied as they read."""
    array = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    for view in (array.T, array[::-1, :, ::-1], array[1:, 1:3]):
        tensor = contiguous(view, np.float32)
        assert tensor.is_contiguous()
        assert np.array_equal(tensor.numpy(), view)
