"""Resampling along the axes of a grid, as a few small matrix products.

A spline of order n evaluated on another grid is linear in the voxels, and separable: one matrix per axis. For cubic
splines the matrix contains the prefilter. Far from the diagonal its entries vanish (they fall by 0.27 per voxel), so
that it is cut into blocks of rows that each read a short stretch of the axis. The blocks of the first axis are also
how memory stays bounded: one slab of the result is finished before the next begins.

Labels need no products: where all voxels around a place have one label, that is it, and at borders they vote.

Edges of the image stay where they are: output voxel i lies at ``(i + 0.5) * n / m - 0.5`` on the input's axis, and
beyond the outermost voxel centre the edge value continues.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, reduce
from math import prod
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.errors import GeometryError
from unetpipe.imaging.geometry import Shape, Spacing
from unetpipe.imaging.preprocessing import Interpolation

_PAD = 12  # voxels of continued edge that scipy prefilters along with the image
_REACH = 12  # voxels after which an entry of the prefilter is below 1e-6
_ROWS = 64  # of a block
_VOTES = 1 << 16  # counted at a time, which keeps them in the cache
_TIE = 1e-6  # scores that differ less than by rounding count as equal


class _Block(NamedTuple):
    """Rows of an axis's matrix and the columns where they are not 0; no weights means that the axis stays."""

    rows: slice
    columns: slice
    weights: Tensor | None


class _Tap(NamedTuple):
    """A voxel that each output voxel reads along an axis, and with which weight."""

    voxel: Tensor
    weight: Tensor


def resampled_shape(shape: Shape, spacing_mm: Spacing, target_mm: Spacing) -> Shape:
    """How many voxels of another size cover the same extent, to the nearest whole voxel."""
    sizes = zip(shape, spacing_mm, target_mm, strict=True)
    return tuple(max(1, round(n * spacing / target)) for n, spacing, target in sizes)


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
        interpolation: Per axis.
        prepare: From a stretch of the array along its first spatial axis to float32 of the same shape: applied as the
            stretch comes, so that no prepared copy of the whole exists. Stretches overlap.

    Returns:
        float32 (C, *shape), equal to ``scipy.ndimage.zoom(order=3 | 1 | 0, mode="nearest", grid_mode=True)`` to 1e-6 of
        the intensity range where torch's float32 matmul precision is left at "highest".

    Raises:
        GeometryError: If the number of axes differs.
    """
    _check_axes(array, shape, interpolation)
    result = torch.empty((len(array), *shape), dtype=torch.float32, device=array.device)
    for channel, values in enumerate(array.as_subclass(Tensor)):
        for rows, slab in _slabs(values, _matrices(values.shape, shape, interpolation), prepare):
            result[channel, rows] = slab
    return result


def resample_label(label: Tensor, shape: Shape, interpolation: Sequence[Interpolation]) -> Tensor:
    """Resample a label map class by class, linearly (cubic is taken as linear), and take the largest.

    Along ``nearest`` axes the nearest slice is taken. No class is ever resampled as a whole: an output voxel lies
    between at most eight input voxels, and where they differ these vote with their linear weights, which is the same.

    Args:
        label: Integers (1, *spatial).
        shape: Wanted voxels along each spatial axis.
        interpolation: Of the image, per axis.

    Returns:
        (1, *shape) of the same type; no class that was not there before; ties go to the lowest class.
    """
    _check_axes(label, shape, interpolation)
    source = label.as_subclass(Tensor)[0]
    if tuple(source.shape) == tuple(shape):
        return source.clone()[None]
    result = torch.empty(shape, dtype=label.dtype, device=label.device)
    axes = [_taps(*axis, label.device) for axis in zip(source.shape, shape, interpolation, strict=True)]
    for start in range(0, shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        first = [_Tap(tap.voxel[rows], tap.weight[rows]) for tap in axes[0]]
        result[rows] = _vote(source, [first, *axes[1:]])
    return result[None]


def resample_logits_argmax(
    logits: Tensor, shape: Shape, interpolation: Sequence[Interpolation], *, overlapping: bool = False
) -> Tensor:
    """The class of the largest logit on another grid, without ever holding all classes there.

    Args:
        logits: (C, *spatial); linear where images go cubic.
        shape: Wanted voxels along each spatial axis.
        interpolation: Of the image, per axis.
        overlapping: Instead of the largest, take the last logit above 0; 0 is none of them, n the n-th.

    Returns:
        (*shape) of type uint8, or int16 for more than 256 classes; ties go to the lowest class.
    """
    _check_axes(logits, shape, interpolation)
    matrices = _matrices(logits.shape[1:], shape, _linear_for_cubic(interpolation))
    best = torch.full(shape, -torch.inf, device=logits.device)
    result = torch.zeros(shape, dtype=torch.uint8 if len(logits) <= 256 else torch.int16, device=logits.device)
    for index, values in enumerate(logits.as_subclass(Tensor)):
        for rows, scores in _slabs(values, matrices):
            if overlapping:
                result[rows].masked_fill_(scores > 0, index + 1)
                continue
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


def _slabs(
    values: Tensor, axes: Sequence[Sequence[_Block]], prepare: Callable[[Tensor], Tensor] = torch.Tensor.float
) -> Iterator[tuple[slice, Tensor]]:
    """Multiply each axis of (*spatial) with its matrix, one block of the first axis after the other.

    What shrinks most goes first, to keep the next products small.
    """
    grown = [blocks[-1].rows.stop / n for blocks, n in zip(axes, values.shape, strict=True)]
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


@lru_cache(maxsize=256)
def _blocks(n: int, m: int, kind: Interpolation) -> tuple[_Block, ...]:
    """The matrix that takes n voxels to m, in blocks of rows."""
    build = {"cubic": _cubic, "linear": _linear, "nearest": _nearest}[kind]
    positions = _positions(n, m)
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


def _taps(n: int, m: int, kind: Interpolation, device: torch.device) -> list[_Tap]:
    """The one or two voxels of an axis between which each output voxel lies."""
    positions = _positions(n, m)
    if n == m or kind == "nearest":
        return [_Tap(torch.from_numpy(_nearest_voxel(n, positions)).to(device), torch.ones(m, device=device))]
    index, shares = _neighbours(n, positions)
    return [
        _Tap(torch.from_numpy(voxels).to(device), torch.from_numpy(share.astype(np.float32)).to(device))
        for voxels, share in zip(index, shares, strict=True)
    ]


def _vote(source: Tensor, axes: Sequence[Sequence[_Tap]]) -> Tensor:
    """The label of largest weight among the voxels around each output voxel."""
    lowest = highest = source
    for axis, taps in enumerate(axes):
        lowest = reduce(torch.minimum, [lowest.index_select(axis, tap.voxel) for tap in taps])
        highest = reduce(torch.maximum, [highest.index_select(axis, tap.voxel) for tap in taps])
    columns = (lowest != highest).nonzero(as_tuple=True)
    for places in zip(*(torch.split(column, _VOTES) for column in columns), strict=True):
        at = reduce(torch.add, [place * stride for place, stride in zip(places, _strides(lowest.shape), strict=True)])
        corners, shares = torch.zeros((1, len(at)), dtype=torch.int64, device=at.device), []
        for taps, place, stride in zip(axes, places, _strides(source.shape), strict=True):
            offsets = torch.stack([tap.voxel[place] * stride for tap in taps])
            corners = (corners[:, None] + offsets).flatten(0, 1)
            if len(taps) == 2:
                shares.append(taps[1].weight[place])
        lowest.put_(at, _elect(source.take(corners), shares, lowest.take(at), highest.take(at)))
    return lowest


def _strides(shape: Sequence[int]) -> list[int]:
    """How far apart neighbours along each axis lie in a flattened array."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _elect(labels: Tensor, shares: Sequence[Tensor], lowest: Tensor, highest: Tensor) -> Tensor:
    """The label with the largest sum of weights in each column of (corner, voxel); ties go to the lowest label.

    Args:
        labels: Those at the corners around each voxel; along the last axis the nearest corners follow each other.
        shares: Per axis, how much of the weight the second of two neighbours has.
        lowest: Of each column.
        highest: Of each column.
    """
    is_highest = labels == highest
    winners = torch.where(_weighted(is_highest, shares) > 0.5 + _TIE / 2, highest, lowest)
    # Nearly everywhere that is all. Where three and more labels meet, each corner's label stands for election.
    rest = (is_highest | (labels == lowest)).logical_not_().any(dim=0).nonzero()[:, 0]
    labels, shares = labels[:, rest], [share[rest] for share in shares]
    scores = torch.stack([_weighted(labels == one, shares) for one in labels])
    elected = torch.where(scores > scores.amax(dim=0) - _TIE, labels, highest[rest]).amin(dim=0)
    return winners.put_(rest, elected)


def _weighted(chosen: Tensor, shares: Sequence[Tensor]) -> Tensor:
    """Interpolate (corner, voxel) of yes and no to each voxel, one axis after the other."""
    values = chosen.float()
    for share in shares:
        before, after = values.chunk(2)
        values = torch.lerp(before, after, share)
    return values[0]


def _positions(n: int, m: int) -> NDArray[np.floating]:
    """Where m output voxels lie on an axis of n voxels."""
    return (np.arange(m) + 0.5) * (n / m) - 0.5


def _nearest_voxel(n: int, positions: NDArray[np.floating]) -> NDArray[np.int64]:
    index: NDArray[np.int64] = np.clip(np.floor(positions + 0.5).astype(np.int64), 0, n - 1)
    return index


def _neighbours(n: int, positions: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Voxels before and after each position, and their linear weights; both (2, positions)."""
    lower = np.floor(positions).astype(np.int64)
    share = positions - lower
    return np.clip(np.stack([lower, lower + 1]), 0, n - 1), np.stack([1 - share, share])


def _nearest(n: int, positions: NDArray[np.floating]) -> tuple[int, NDArray[np.floating]]:
    index = _nearest_voxel(n, positions)
    weights = np.zeros((len(index), index[-1] - index[0] + 1))
    weights[np.arange(len(index)), index - index[0]] = 1
    return int(index[0]), weights


def _linear(n: int, positions: NDArray[np.floating]) -> tuple[int, NDArray[np.floating]]:
    index, shares = _neighbours(n, positions)
    first, last = int(index.min()), int(index.max())
    weights = np.zeros((len(positions), last - first + 1))
    for tap, share in zip(index, shares, strict=True):
        weights[np.arange(len(positions)), tap - first] += share
    return first, weights


def _cubic(n: int, positions: NDArray[np.floating]) -> tuple[int, NDArray[np.floating]]:
    """Cubic B-spline taps times the prefilter of a stretch of the axis, whose edges are continued as scipy does."""
    from scipy import ndimage  # a quarter of a second to import, and not every dataset is resampled

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
