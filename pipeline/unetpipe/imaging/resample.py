"""Resampling images along the axes of a grid, as a few small matrix products.

The first axis also bounds the memory: one slab of the result is finished before the next begins.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unetpipe.errors import GeometryError
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.interpolation import AxisMatrix, axis_matrix
from unetpipe.imaging.preprocessing import Interpolation

_PLANES = 64  # of a slab


def resample(
    array: Tensor,
    shape: Shape,
    interpolation: Sequence[Interpolation],
    prepare: Callable[[Tensor], Tensor] = torch.Tensor.float,
) -> Tensor:
    """Resample to another number of voxels over the same extent.

    Args:
        array: (C, *spatial) of any type, on any device.
        shape: Wanted voxels along each spatial axis.
        interpolation: Interpolation along each axis.
        prepare: Maps a part of the array to float32 of the same shape; applied as parts come, so that no prepared copy
            of the whole exists. Parts overlap.

    Returns:
        float32 (C, *shape), equal to ``scipy.ndimage.zoom(order=3 | 1 | 0, mode="nearest", grid_mode=True)`` to 1e-6 of
        the intensity range where torch's float32 matmul precision is left at "highest".

    Raises:
        GeometryError: If the number of axes differs.
    """
    require_axes(array, shape, interpolation)
    array = array.as_subclass(Tensor)
    old = tuple(array.shape[1:])
    axes = [axis_matrix(*each, array.device) for each in zip(old, shape, interpolation, strict=True)]
    result = torch.empty((len(array), *shape), dtype=torch.float32, device=array.device)
    order = sorted(range(len(shape)), key=lambda axis: shape[axis] / old[axis])  # what shrinks most goes first
    for channel, values in enumerate(array):
        for start in range(0, shape[0], _PLANES):
            planes = (start, min(start + _PLANES, shape[0]))
            result[channel, slice(*planes)] = _slab(values, axes, order, planes, prepare)
    return result


def require_axes(array: Tensor, shape: Shape, interpolation: Sequence[Interpolation]) -> None:
    """See that (C, *spatial) has as many spatial axes as a shape and an interpolation.

    Raises:
        GeometryError: If it has not.
    """
    if not array.ndim - 1 == len(shape) == len(interpolation):
        raise GeometryError(f"cannot resample {tuple(array.shape)} to {shape}, {tuple(interpolation)}")


def _slab(
    values: Tensor,
    axes: Sequence[AxisMatrix],
    order: Sequence[int],
    planes: tuple[int, int],
    prepare: Callable[[Tensor], Tensor],
) -> Tensor:
    """Some planes along the first axis of the result, from (*spatial)."""
    outputs = [planes, *((0, axis.out) for axis in axes[1:])]
    slab = prepare(values[tuple(slice(*axis.inputs(*wanted)) for axis, wanted in zip(axes, outputs, strict=True))])
    for axis in order:
        slab = axes[axis].apply(slab, axis, outputs[axis])
    return slab
