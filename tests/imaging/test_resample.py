"""Resampling, with scipy as the oracle."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage

from unetpipe.errors import GeometryError
from unetpipe.imaging.preprocessing import Interpolation
from unetpipe.imaging.resample import resample, resample_label, resample_logits_argmax, resampled_shape

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
    with pytest.raises(GeometryError, match="cannot resample"):
        resample_label(torch.zeros(1, 4, 4, dtype=torch.uint8), (4, 4), ("cubic",) * 3)


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


def brute_force_labels(label: np.ndarray, shape: tuple[int, ...], orders: tuple[int, ...]) -> np.ndarray:
    """One-hot, zoom every class, take the first largest; ties within rounding go to the lowest class."""
    classes = np.unique(label)
    scores = np.stack([zoom(label == value, shape, orders) for value in classes])
    return classes[np.argmax(scores > scores.max(axis=0) - 1e-6, axis=0)]


def blobs(shape: tuple[int, ...], values: list[int]) -> np.ndarray:
    """A label map of connected regions of several sizes."""
    field = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=shape), 1.5)
    ranks = np.argsort(np.argsort(field.ravel())) / field.size
    return np.array(values)[(ranks * len(values)).astype(int)].reshape(shape)


@pytest.mark.parametrize("shape", [(30, 15, 26), (8, 9, 40), (1, 1, 1), (21, 22, 23), (3, 50, 23)])
@pytest.mark.parametrize("kinds", [("cubic",) * 3, ("nearest", "cubic", "cubic"), ("linear", "linear", "nearest")])
@pytest.mark.parametrize("values", [[0, 1, 2], [-1, 0, 7, 300], [4]])
def test_labels_equal_the_one_hot_definition(
    shape: tuple[int, ...], kinds: tuple[Interpolation, ...], values: list[int]
) -> None:
    """Class by class in bounding boxes gives what all classes at once over the whole volume give."""
    label = blobs((21, 22, 23), values)
    ours = resample_label(torch.from_numpy(label.astype(np.int16))[None], shape, kinds)[0].numpy()
    orders = tuple({"cubic": 1, "linear": 1, "nearest": 0}[kind] for kind in kinds)
    assert ours.dtype == np.int16
    assert np.array_equal(ours, brute_force_labels(label, shape, orders))


def test_labels_of_two_axes() -> None:
    """Masks of 2-D pictures take the same road."""
    label = blobs((40, 31), [0, 1, 2, 3])
    ours = resample_label(torch.from_numpy(label.astype(np.uint8))[None], (77, 20), ("cubic", "cubic"))[0].numpy()
    assert np.array_equal(ours, brute_force_labels(label, (77, 20), (1, 1)))


def test_ties_go_to_the_lowest_class() -> None:
    """Halfway between two voxels of classes 1 and 2 lies class 1, whichever comes first."""
    for line in ([1, 2], [2, 1]):
        label = torch.tensor(line, dtype=torch.uint8)[None, :, None]
        assert resample_label(label, (1, 1), ("cubic", "cubic")).item() == 1
        third = resample_label(label, (3, 1), ("cubic", "cubic"))[0, :, 0]
        assert third.tolist() == [line[0], 1, line[1]]


def test_a_class_too_small_to_be_reached_vanishes() -> None:
    """One voxel between the sample points of a coarse grid leaves nothing, and no error."""
    label = torch.zeros((1, 60, 60, 60), dtype=torch.uint8)
    label[0, 1, 1, 1] = 9
    assert resample_label(label, (6, 6, 6), ("cubic",) * 3).unique().tolist() == [0]


def test_the_same_label_shape_is_a_copy() -> None:
    """What comes back can be changed without changing what went in."""
    label = torch.ones((1, 3, 3, 3), dtype=torch.int16)
    resample_label(label, (3, 3, 3), ("cubic",) * 3).zero_()
    assert label.all()


@pytest.mark.parametrize("shape", [(14, 30, 9), (12, 13, 11)])
@pytest.mark.parametrize("kinds", [("cubic",) * 3, ("cubic", "nearest", "cubic")])
def test_streamed_argmax_equals_the_whole(shape: tuple[int, ...], kinds: tuple[Interpolation, ...]) -> None:
    """The running argmax over resampled logits is that of all of them at once."""
    logits = torch.randn(6, 12, 13, 11, generator=torch.Generator().manual_seed(0))
    orders = tuple({"cubic": 1, "nearest": 0}[kind] for kind in kinds)
    theirs = np.stack([zoom(values, shape, orders) for values in logits.numpy()]).argmax(axis=0)
    ours = resample_logits_argmax(logits, shape, kinds)
    assert ours.dtype == torch.uint8
    assert (ours.numpy() == theirs).mean() > 0.999


def test_many_classes_and_equal_logits() -> None:
    """More than 256 classes need int16; equal logits give class 0; half precision is taken."""
    assert resample_logits_argmax(torch.zeros(3, 4, 4, dtype=torch.bfloat16), (8, 8), ("cubic",) * 2).sum() == 0
    logits = torch.zeros(300, 2, 2)
    logits[299] = 1
    result = resample_logits_argmax(logits, (3, 3), ("cubic",) * 2)
    assert result.dtype == torch.int16
    assert (result == 299).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    """Images to 1e-4, labels to a voxel in ten thousand."""
    image = torch.randn(1, 50, 60, 40, generator=torch.Generator().manual_seed(0))
    shape, kinds = (70, 41, 40), ("cubic",) * 3
    assert torch.allclose(resample(image.cuda(), shape, kinds).cpu(), resample(image, shape, kinds), atol=1e-4)
    label = torch.from_numpy(blobs((50, 60, 40), [0, 1, 2]))[None]
    same = resample_label(label.cuda(), shape, kinds).cpu() == resample_label(label, shape, kinds)
    assert same.float().mean() > 0.9999
    logits = torch.randn(4, 50, 60, 40, generator=torch.Generator().manual_seed(0))
    same = resample_logits_argmax(logits.cuda(), shape, kinds).cpu() == resample_logits_argmax(logits, shape, kinds)
    assert same.float().mean() > 0.999
