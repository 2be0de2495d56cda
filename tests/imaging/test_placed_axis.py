"""Linear interpolation between voxels whose places on an axis are given."""

import numpy as np
import pytest
import torch

from unetpipe.imaging.interpolation import AxisMatrix, PlacedAxis

CPU = torch.device("cpu")


@pytest.mark.parametrize(("first", "step", "start"), [(0.0, 0.7, 0), (0.0, 1.6, 0), (1.5, 0.9, 3), (0.25, 1.3, -2)])
def test_values_are_those_of_numpy(first: float, step: float, start: int) -> None:
    """A new voxel is interpolated between those of the whole axis, of which all that was cut off is 0."""
    size, length, out = 12, 20, 14
    values = torch.rand(size)
    axis = np.zeros(length + 10)  # with room for voxels before the axis
    axis[5 + start : 5 + start + size] = values
    places = np.clip(first + step * np.arange(out), 0, length - 1)
    expected = np.interp(places + 5, np.arange(length + 10), axis)
    matrix = AxisMatrix(size, out, PlacedAxis(first, step, length, start), CPU)
    found = matrix.apply(values[slice(*matrix.inputs(0, out))], 0, (0, out))
    assert np.allclose(found.numpy(), expected, atol=1e-6)


def test_the_reached_part_is_where_something_adds_up() -> None:
    """Voxels that are made of nothing but what was cut off are outside of the reached range."""
    placed = PlacedAxis(0.0, 0.5, 20, 4)
    low, high = placed.reached(6, 40)
    weights = AxisMatrix(6, 40, placed, CPU).apply(torch.ones(6), 0, (0, 40))
    assert (weights[low:high] > 0).all()
    assert not weights[:low].any()
    assert not weights[high:].any()
    assert placed.shifted(low).first == pytest.approx(low * 0.5)
