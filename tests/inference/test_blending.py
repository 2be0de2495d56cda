"""Windows and weights by nnU-Net's convention."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from unetpipe.inference.sliding_window import Blending, Windows, window_weights

NNUNET = Blending(convention="nnunet")


def test_windows_lie_at_equal_distances() -> None:
    """An axis of 110 voxels has windows of 64 at 0, 23 and 46, as nnU-Net's own comment has it."""
    assert Windows.over((110, 64, 65), (64, 64, 64), 0.5, NNUNET).starts == ((0, 23, 46), (0,), (0, 1))


def test_weights_are_a_filtered_voxel() -> None:
    """The weights are those that a Gaussian filter makes of one voxel, and never 0."""
    patch = (12, 9, 16)
    voxel = np.zeros(patch)
    voxel[tuple(size // 2 for size in patch)] = 1
    expected = gaussian_filter(voxel, [size / 8 for size in patch], mode="constant")
    expected /= expected.max()
    found = window_weights(patch, NNUNET).numpy()
    inside = expected > 0
    assert np.allclose(found[inside], expected[inside], atol=1e-6)
    assert np.allclose(found[~inside], found[inside].min())


def test_constant_weights_are_ones() -> None:
    """Without a sigma all voxels of a window weigh the same."""
    assert torch.equal(window_weights((3, 4), Blending(sigma_scale=None)), torch.ones(3, 4))
