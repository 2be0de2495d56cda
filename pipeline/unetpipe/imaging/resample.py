"""Resampling along the axes of a grid, as a few small matrix products.

A spline of order n evaluated on another grid is linear in the voxels, and separable: one matrix per axis. For cubic
splines the matrix contains the prefilter. Far from the diagonal its entries vanish (they fall by 0.27 per voxel), so
that it is cut into blocks of rows that each read a short stretch of the axis. The blocks of the first axis are also
how memory stays bounded: one slab of the result is finished before the next begins.

Edges of the image stay where they are: output voxel i lies at ``(i + 0.5) * n / m - 0.5`` on the input's axis, and
beyond the outermost voxel centre the edge value continues.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from math import prod
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from unetpipe.errors import GeometryError
from unetpipe.imaging.geometry import Shape, Spacing
from unetpipe.imaging.preprocessing import Interpolation

_PAD = 12  # voxels of continued edge that scipy prefilters along with the image
_REACH = 12  # voxels after which an entry of the prefilter is below 1e-6
_ROWS = 64  # of a block
_TIE = 1e-6  # scores that differ less than by rounding count as equal


class _Block(NamedTuple):
    """Rows of an axis's matrix and the columns where they are not 0; no weights means that the axis stays."""

    rows: slice
    columns: slice
    weights: Tensor | None


def resampled_shape(shape: Shape, spacing_mm: Spacing, target_mm: Spacing) -> Shape:
    """How many voxels of another size cover the same extent, to the nearest whole voxel."""
    sizes = zip(shape, spacing_mm, target_mm, strict=True)
    return tuple(max(1, round(n * spacing / target)) for n, spacing, target in sizes)


def resample(array: Tensor, shape: Shape, interpolation: Sequence[Interpolation]) -> Tensor:
    """Resample to another number of voxels over the same extent.

    Args:
        array: (C, *spatial) of any type, on any device.
        shape: Wanted voxels along each spatial axis.
        interpolation: Per axis.

    Returns:
        float32 (C, *shape), equal to ``scipy.ndimage.zoom(order=3 | 1 | 0, mode="nearest", grid_mode=True)`` to 1e-6 of
        the intensity range where torch's float32 matmul precision is left at "highest".

    Raises:
        GeometryError: If the number of axes differs.
    """
    _check_axes(array, shape, interpolation)
    result = torch.empty((len(array), *shape), dtype=torch.float32, device=array.device)
    for channel, values in enumerate(array.as_subclass(Tensor)):
        for rows, slab in _slabs(values, _matrices(values.shape, shape, interpolation), Tensor.float):
            result[channel, rows] = slab
    return result


def resample_label(label: Tensor, shape: Shape, interpolation: Sequence[Interpolation]) -> Tensor:
    """Resample a label map class by class, linearly (cubic is taken as linear), and take the largest.

    Along ``nearest`` axes the nearest slice is taken. Each class is resampled within its bounding box only.

    Args:
        label: Integers (1, *spatial).
        shape: Wanted voxels along each spatial axis.
        interpolation: Of the image, per axis.

    Returns:
        (1, *shape) of the same type; no class that was not there before; ties go to the lowest class.
    """
    _check_axes(label, shape, interpolation)
    source = label.as_subclass(Tensor)[0]
    if source.shape == shape:
        return source.clone()[None]
    lowest, highest = int(source.min()), int(source.max())
    # find_objects counts from 1; one pass over the volume gives every class's box.
    small = np.int16 if highest - lowest < 2**15 - 1 else np.int32
    boxes = ndimage.find_objects(np.subtract(source.cpu().numpy(), lowest - 1, dtype=small, casting="unsafe"))
    best = torch.zeros(shape, device=label.device)
    result = torch.full(shape, lowest, dtype=label.dtype, device=label.device)
    matrices = _matrices(source.shape, shape, _linear_for_cubic(interpolation))
    for value, box in enumerate(boxes, start=lowest):
        axes = [] if box is None else [_restricted(*each) for each in zip(matrices, box, strict=True)]
        if not axes or not all(axes):
            continue  # no voxel has this value, or none that an output voxel reads
        others = tuple(slice(blocks[0].rows.start, blocks[-1].rows.stop) for blocks in axes[1:])
        for rows, scores in _slabs(source[box], axes, partial(_mask_of, value)):
            so_far = best[(rows, *others)]
            result[(rows, *others)].masked_fill_(scores > so_far, value)
            torch.maximum(so_far, scores.add_(_TIE), out=so_far)  # the next class must beat it clearly
    return result[None]


def resample_logits_argmax(logits: Tensor, shape: Shape, interpolation: Sequence[Interpolation]) -> Tensor:
    """The class of the largest logit on another grid, without ever holding all classes there.

    Args:
        logits: (C, *spatial); linear where images go cubic.
        shape: Wanted voxels along each spatial axis.
        interpolation: Of the image, per axis.

    Returns:
        (*shape) of type uint8, or int16 for more than 256 classes; ties go to the lowest class.
    """
    _check_axes(logits, shape, interpolation)
    matrices = _matrices(logits.shape[1:], shape, _linear_for_cubic(interpolation))
    best = torch.full(shape, -torch.inf, device=logits.device)
    result = torch.zeros(shape, dtype=torch.uint8 if len(logits) <= 256 else torch.int16, device=logits.device)
    for index, values in enumerate(logits.as_subclass(Tensor)):
        for rows, scores in _slabs(values, matrices, Tensor.float):
            result[rows].masked_fill_(scores > best[rows], index)
            torch.maximum(best[rows], scores, out=best[rows])
    return result


def _check_axes(array: Tensor, shape: Shape, interpolation: Sequence[Interpolation]) -> None:
    if not array.ndim - 1 == len(shape) == len(interpolation):
        raise GeometryError(f"cannot resample {tuple(array.shape)} to {shape}, {tuple(interpolation)}")


def _linear_for_cubic(interpolation: Sequence[Interpolation]) -> tuple[Interpolation, ...]:
    return tuple("linear" if kind == "cubic" else kind for kind in interpolation)


def _matrices(old: Sequence[int], new: Shape, interpolation: Sequence[Interpolation]) -> list[Sequence[_Block]]:
    return [_blocks(*axis) for axis in zip(old, new, interpolation, strict=True)]


def _mask_of(value: int, part: Tensor) -> Tensor:
    return (part == value).float()


def _slabs(
    values: Tensor, axes: Sequence[Sequence[_Block]], prepare: Callable[[Tensor], Tensor]
) -> Iterator[tuple[slice, Tensor]]:
    """Multiply each axis of (*spatial) with its matrix, one block of the first axis after the other.

    What shrinks most goes first, to keep the next products small. `prepare` makes float32 of each stretch of `values`.
    """
    grown = [(blocks[-1].rows.stop - blocks[0].rows.start) / n for blocks, n in zip(axes, values.shape, strict=True)]
    order = sorted(range(values.ndim), key=grown.__getitem__)
    for rows, columns, weights in axes[0]:
        slab = prepare(values[columns])
        own = _Block(rows, slice(0, len(slab)), weights)
        for axis in order:
            slab = _multiply(slab, axis, [own] if axis == 0 else axes[axis])
        yield rows, slab


def _multiply(values: Tensor, axis: int, blocks: Sequence[_Block]) -> Tensor:
    if blocks[0].weights is None:
        return values
    shape, first = values.shape, blocks[0].rows.start
    size = blocks[-1].rows.stop - first
    before, after = prod(shape[:axis]), prod(shape[axis + 1 :])
    values = values.reshape(before, shape[axis], after)
    result = values.new_empty((before, size, after))
    for rows, columns, block in blocks:
        weights = cast(Tensor, block).to(values.device)
        target = slice(rows.start - first, rows.stop - first)
        if after == 1:
            result[:, target, 0] = values[:, columns, 0] @ weights.T
        else:
            result[:, target] = weights @ values[:, columns]
    return result.reshape(*shape[:axis], size, *shape[axis + 1 :])


def _restricted(blocks: Sequence[_Block], part: slice) -> list[_Block]:
    """The blocks' entries that read columns in `part`, renumbered to start there; rows keep their numbers."""
    result = []
    for rows, columns, weights in blocks:
        start, stop = max(columns.start, part.start), min(columns.stop, part.stop)
        if start >= stop:
            continue
        read = slice(start - part.start, stop - part.start)
        if weights is None:
            result.append(_Block(slice(start, stop), read, None))
            continue
        weights = weights[:, start - columns.start : stop - columns.start]
        touched = weights.any(dim=1).nonzero()
        if len(touched):
            first, last = int(touched[0]), int(touched[-1]) + 1
            result.append(_Block(slice(rows.start + first, rows.start + last), read, weights[first:last]))
    return result


@lru_cache(maxsize=256)
def _blocks(n: int, m: int, kind: Interpolation) -> tuple[_Block, ...]:
    """The matrix that takes n voxels to m, in blocks of rows."""
    build = {"cubic": _cubic, "linear": _linear, "nearest": _nearest}[kind]
    positions = (np.arange(m) + 0.5) * (n / m) - 0.5
    blocks = []
    for start in range(0, m, _ROWS):
        rows = slice(start, min(start + _ROWS, m))
        if n == m:
            blocks.append(_Block(rows, rows, None))
            continue
        first, weights = build(n, positions[rows])
        columns = slice(first, first + weights.shape[1])
        blocks.append(_Block(rows, columns, torch.from_numpy(weights.astype(np.float32))))
    return tuple(blocks)


def _nearest(n: int, positions: NDArray[np.floating]) -> tuple[int, NDArray[np.floating]]:
    index = np.clip(np.floor(positions + 0.5).astype(int), 0, n - 1)
    weights = np.zeros((len(index), index[-1] - index[0] + 1))
    weights[np.arange(len(index)), index - index[0]] = 1
    return int(index[0]), weights


def _linear(n: int, positions: NDArray[np.floating]) -> tuple[int, NDArray[np.floating]]:
    lower = np.floor(positions).astype(int)
    index = np.clip(np.stack([lower, lower + 1]), 0, n - 1)
    first, last = int(index.min()), int(index.max())
    weights = np.zeros((len(positions), last - first + 1))
    for tap, share in zip(index, (1 - (positions - lower), positions - lower), strict=True):
        weights[np.arange(len(positions)), tap - first] += share
    return first, weights


def _cubic(n: int, positions: NDArray[np.floating]) -> tuple[int, NDArray[np.floating]]:
    """Cubic B-spline taps times the prefilter of a stretch of the axis, whose edges are continued as scipy does."""
    lower = np.floor(positions).astype(int)
    start, stop = max(lower[0] - _REACH, -_PAD), min(lower[-1] + _REACH + 2, n + _PAD)
    voxels = np.clip(np.arange(start, stop), 0, n - 1)
    first, last = int(voxels[0]), int(voxels[-1])
    stretch = np.zeros((stop - start, last - first + 1))
    stretch[np.arange(stop - start), voxels - first] = 1
    coefficients = ndimage.spline_filter1d(stretch, order=3, axis=0, mode="nearest")
    f = (positions - lower)[:, None]
    taps = ((1 - f) ** 3, 4 - 6 * f**2 + 3 * f**3, 4 - 6 * (1 - f) ** 2 + 3 * (1 - f) ** 3, f**3)
    base = lower - 1 - start
    weights = np.sum([tap / 6 * coefficients[base + offset] for offset, tap in enumerate(taps)], axis=0)
    return first, weights
