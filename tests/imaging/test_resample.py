"""Resampling, with scipy as the oracle."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage

from unetpipe.errors import GeometryError
from unetpipe.imaging.geometry import resampled_shape
from unetpipe.imaging.preprocessing import Interpolation
from unetpipe.imaging.resample import resample

ORDERS: list[tuple[Interpolation, int]] = [("cubic", 3), ("linear", 1), ("nearest", 0)]
SIZES = [1, 2, 3, 5, 13, 64, 65, 150]


def zoom(array: np.ndarray, shape: tuple[int, ...], orders: tuple[int, ...]) -> np.ndarray:
    """Scipy's answer, axis by axis."""
    for axis, (size, order) in enumerate(zip(shape, orders, strict=True)):
        factors = [1.0] * array.ndim
        factors[axis] = size / array.shape[axis]
        array = ndimage.zoom(array.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)
    return array


@pytest.mark.parametrize(("kind", "order"), ORDERS)
@pytest.mark.parametrize(("old", "new"), [*product(SIZES, [1, 2, 3, 4, 9, 50, 63, 128, 200])])
def test_one_axis_equals_scipy(kind: Interpolation, order: int, old: int, new: int) -> None:
    """Odd and tiny sizes, up and down: within 1e-5 of the intensity range."""
    line = np.random.default_rng(old * 1000 + new).random((old, 1)).astype(np.float32)
    ours = resample(torch.from_numpy(line)[None], (new, 1), (kind, kind))[0].numpy()
    assert np.abs(ours - zoom(line, (new, 1), (order, order))).max() < 1e-5


@pytest.mark.parametrize("shape", [(31, 17, 44), (9, 40, 8), (1, 1, 1), (20, 24, 19)])
@pytest.mark.parametrize("kinds", [*product(ORDERS, repeat=3)], ids=lambda kinds: "-".join(k for k, _ in kinds))
def test_three_axes_equal_scipy(shape: tuple[int, int, int], kinds: tuple[tuple[Interpolation, int], ...]) -> None:
    """Any mixture of interpolations, some axes growing while others shrink; two channels."""
    array = np.random.default_rng(0).random((2, 20, 24, 19)).astype(np.float32)
    ours = resample(torch.from_numpy(array), shape, [kind for kind, _ in kinds]).numpy()
    for channel in range(2):
        theirs = zoom(array[channel], shape, tuple(order for _, order in kinds))
        assert np.abs(ours[channel] - theirs).max() < 1e-5


def test_two_dimensions_equal_scipys_single_call() -> None:
    """The whole 2-D image in one call of zoom."""
    array = np.random.default_rng(0).normal(size=(101, 83)).astype(np.float32)
    ours = resample(torch.from_numpy(array)[None], (64, 120), ("cubic", "cubic"))[0].numpy()
    theirs = ndimage.zoom(array.astype(float), (64 / 101, 120 / 83), order=3, mode="nearest", grid_mode=True)
    assert np.abs(ours - theirs).max() < 1e-5 * np.ptp(array)


def test_a_line_stays_a_line() -> None:
    """Away from the edges, a linear ramp keeps its value at every place, whatever the voxel size."""
    ramp = torch.arange(40.0)[None, :, None].expand(1, 40, 3)
    for size in (23, 40, 97):
        places = (np.arange(size) + 0.5) * 40 / size - 0.5
        inner = (places > 8) & (places < 31)
        result = resample(ramp, (size, 3), ("cubic", "cubic"))[0, :, 1].numpy()
        assert np.abs(result - places)[inner].max() < 1e-3


def test_a_constant_stays_constant() -> None:
    """Weights of every output voxel add up to 1, at the edges too."""
    for kind, _ in ORDERS:
        result = resample(torch.full((1, 7, 9, 11), 3.5), (15, 2, 11), (kind,) * 3)
        assert torch.allclose(result, torch.tensor(3.5), atol=1e-5)


def test_the_same_shape_changes_nothing() -> None:
    """Not even by rounding."""
    array = torch.randn(1, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resample(array, (5, 6, 7), ("cubic",) * 3), array)


def test_integers_and_strided_input_are_taken() -> None:
    """int16 in Fortran order gives what its float32 copy gives; the input stays as it was."""
    array = np.asfortranarray(np.random.default_rng(0).integers(-900, 900, (1, 12, 13, 14)).astype(np.int16))
    before = array.copy()
    ours = resample(torch.from_numpy(array), (7, 20, 14), ("cubic",) * 3)
    copy = torch.from_numpy(np.ascontiguousarray(array)).float()
    assert torch.allclose(ours, resample(copy, (7, 20, 14), ("cubic",) * 3))
    assert np.array_equal(array, before)


def test_axes_must_match() -> None:
    """A 3-D image has three interpolations and three sizes."""
    with pytest.raises(GeometryError, match="cannot resample"):
        resample(torch.zeros(1, 4, 4, 4), (4, 4), ("cubic", "cubic"))


@pytest.mark.parametrize(
    ("shape", "spacing", "target", "expected"),
    [
        ((200, 320, 320), (1.25, 0.8, 0.8), (1.0, 1.0, 1.0), (250, 256, 256)),
        ((35, 51, 35), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (35, 51, 35)),
        ((3, 1), (0.5, 0.1), (2.0, 1.0), (1, 1)),
    ],
)
def test_shape_follows_spacing(shape: tuple, spacing: tuple, target: tuple, expected: tuple) -> None:
    """Extent divided by the target spacing, rounded, at least one."""
    assert resampled_shape(shape, spacing, target) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    """Images to 1e-4."""
    image = torch.randn(1, 50, 60, 40, generator=torch.Generator().manual_seed(0))
    shape, kinds = (70, 41, 40), ("cubic",) * 3
    assert torch.allclose(resample(image.cuda(), shape, kinds).cpu(), resample(image, shape, kinds), atol=1e-4)


def test_rounding_of_a_header_decides_no_shape() -> None:
    """Seven and a half voxels are eight, whether the spacing is 1.5 or what float32 makes of it, turned or not."""
    for spacing in (1.5, 1.5 - 1e-7, 1.5 + 1e-7):
        assert resampled_shape((5,), (spacing,), (1.0,)) == (8,)
    assert resampled_shape((999, 3), (1.0005, 0.1), (1.0, 1.0)) == (999, 1)
