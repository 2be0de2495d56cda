"""Resampling label maps, held against resampling each class by scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from unetpipe.errors import GeometryError
from unetpipe.imaging.preprocessing import Interpolation
from unetpipe.imaging.resample_label import resample_label


def zoom(array: np.ndarray, shape: tuple[int, ...], orders: tuple[int, ...]) -> np.ndarray:
    """Scipy's answer, axis by axis."""
    for axis, (size, order) in enumerate(zip(shape, orders, strict=True)):
        factors = [1.0] * array.ndim
        factors[axis] = size / array.shape[axis]
        array = ndimage.zoom(array.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)
    return array


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


def test_axes_must_match() -> None:
    """A 2-D label has two sizes and two interpolations."""
    with pytest.raises(GeometryError, match="cannot resample"):
        resample_label(torch.zeros(1, 4, 4, dtype=torch.uint8), (4, 4), ("cubic",) * 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    """Labels to a voxel in ten thousand."""
    label = torch.from_numpy(blobs((50, 60, 40), [0, 1, 2]))[None]
    shape, kinds = (70, 41, 40), ("cubic",) * 3
    same = resample_label(label.cuda(), shape, kinds).cpu() == resample_label(label, shape, kinds)
    assert same.float().mean() > 0.9999
