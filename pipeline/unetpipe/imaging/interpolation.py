"""Interpolation along one axis of a grid: where the new voxels lie, and what they are made of.

Edges of the image stay where they are: new voxel i of m lies at ``(i + 0.5) * n / m - 0.5`` on an axis of n voxels, and
beyond the outermost voxel centre the edge value continues.

A spline of any order evaluated at other places is linear in the voxels: one matrix per axis. For cubic splines it
contains the prefilter, whose entries fall by 0.27 per voxel away from the diagonal. The matrix is kept as blocks of
rows that each read a short stretch of the axis.
"""

from bisect import bisect_left, bisect_right
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unetpipe.imaging.preprocessing import Interpolation

_PAD = 12  # voxels of continued edge that scipy prefilters along with the image
_REACH = 12  # voxels after which an entry of the prefilter is below 1e-6
_ROWS = 64  # of a block


class Taps(NamedTuple):
    """The one or two voxels between which each new voxel lies: it is (1 - share) before + share after.

    Attributes:
        before: Index of the lower voxel, int64 of shape (m,), ascending.
        after: Index of the next voxel, the same as `before` where `share` is 0.
        share: Weight of `after`, float64 in [0, 1).
    """

    before: Tensor
    after: Tensor
    share: Tensor


@lru_cache(maxsize=256)
def linear_taps(size: int, out: int, interpolation: Interpolation) -> Taps:
    """Linear interpolation from `size` to `out` voxels; nearest neighbours where that is asked for or nothing changes.

    Args:
        size: n, voxels of the axis.
        out: m, voxels that it becomes.
        interpolation: ``cubic`` is taken as ``linear``.
    """
    centres = (torch.arange(out, dtype=torch.float64) + 0.5) * size / out
    if interpolation == "nearest" or size == out:
        nearest = centres.floor().long().clamp(0, size - 1)
        return Taps(nearest, nearest, torch.zeros(out, dtype=torch.float64))
    positions = (centres - 0.5).clamp(0, size - 1)
    before = positions.floor().long()
    share = positions - before
    return Taps(before, before + (share > 0), share)


class PlacedAxis(NamedTuple):
    """Linear interpolation where edges do not stay: new voxels at given places on a longer axis that old ones lie on.

    MONAI's ``Spacingd`` keeps the voxel size and with it the first voxel's centre, and other transforms cut pieces off
    an axis. New voxel j lies at ``first + j * step`` on an axis of `length` voxels, and beyond its outermost centres
    the edge value continues. Of that axis the old voxels are those from `start` on; all others are 0.

    Attributes:
        first: Place of new voxel 0.
        step: Distance between new voxels, in voxels of the axis; positive.
        length: Number of voxels of the axis.
        start: Index on the axis of old voxel 0; negative where old voxels lie before the axis.
    """

    first: float
    step: float
    length: int
    start: int

    def reached(self, size: int, out: int) -> tuple[int, int]:
        """Range of the new voxels that are made of at least one of `size` old ones."""
        before, after, _ = self.taps(out)
        reached = torch.nonzero((after >= 0) & (before < size))
        return (int(reached[0]), int(reached[-1]) + 1) if len(reached) else (0, 0)

    def taps(self, out: int) -> Taps:
        """The old voxels between which each of `out` new ones lies; some may not exist."""
        places = (self.first + self.step * torch.arange(out, dtype=torch.float64)).clamp(0, self.length - 1)
        before = places.floor().long()
        share = places - before
        return Taps(before - self.start, before - self.start + (share > 0), share)

    def shifted(self, count: int) -> "PlacedAxis":
        """The same without the first new voxels."""
        return self._replace(first=self.first + count * self.step)


Sampling = Interpolation | PlacedAxis
"""Where the new voxels of an axis lie: over the extent of the old ones, or placed."""


class _Block(NamedTuple):
    """Rows of a matrix, and the columns where they are not 0."""

    rows: slice
    columns: slice
    weights: Tensor


class AxisMatrix:
    """The matrix that takes an axis of n voxels to m, for tensors on one device.

    Attributes:
        size: Number of old voxels, n.
        out: Number of new voxels, m.
        is_identity: n and m are equal, so that nothing changes.
    """

    def __init__(self, size: int, out: int, sampling: Sampling, device: torch.device) -> None:
        self.size, self.out = size, out
        self.is_identity = size == out and (
            not isinstance(sampling, PlacedAxis) or sampling == PlacedAxis(0.0, 1.0, size, 0)
        )
        if isinstance(sampling, PlacedAxis):
            blocks, starts, stops = _placed(sampling.taps(out), size)
        elif sampling == "cubic" and not self.is_identity:
            blocks, starts, stops = _cubic(size, out)
        else:
            blocks, starts, stops = _linear(linear_taps(size, out, sampling))
        self._blocks = [_Block(rows, columns, weights.to(device)) for rows, columns, weights in blocks]
        self._starts, self._stops = starts, stops

    def inputs(self, first: int, stop: int) -> tuple[int, int]:
        """Range of old voxels that new voxels [first, stop) are made of."""
        return self._starts[first], self._stops[stop - 1]

    def outputs(self, first: int, stop: int) -> tuple[int, int]:
        """Range of new voxels whose first old voxel lies in [first, stop)."""
        return bisect_left(self._starts, first), bisect_left(self._starts, stop)

    def complete(self, stop: int) -> int:
        """Number of new voxels, from the first on, that are made of old voxels below `stop` alone."""
        return bisect_right(self._stops, stop)

    def apply(self, values: Tensor, axis: int, outputs: tuple[int, int]) -> Tensor:
        """Resample one axis to a range of new voxels.

        Args:
            values: float32; along `axis` at least the old voxels ``inputs(*outputs)``, from the first of them on.
            axis: Axis of `values` to resample.
            outputs: Range of new voxels.
        """
        if self.is_identity:
            return values.narrow(axis, 0, outputs[1] - outputs[0])
        shape, count = values.shape, outputs[1] - outputs[0]
        before, after = prod(shape[:axis]), prod(shape[axis + 1 :])
        values = values.reshape(before, shape[axis], after)
        result = values.new_empty((before, count, after))
        offset = self._starts[outputs[0]]
        for rows, columns, weights in self._blocks:
            first, stop = max(rows.start, outputs[0]), min(rows.stop, outputs[1])
            if first >= stop:
                continue
            start, end = self.inputs(first, stop)
            part = weights[first - rows.start : stop - rows.start, start - columns.start : end - columns.start]
            source, target = slice(start - offset, end - offset), slice(first - outputs[0], stop - outputs[0])
            if after == 1:
                result[:, target, 0] = values[:, source, 0] @ part.T
            else:
                result[:, target] = part @ values[:, source]
        return result.reshape(*shape[:axis], count, *shape[axis + 1 :])


@lru_cache(maxsize=256)
def axis_matrix(size: int, out: int, sampling: Sampling, device: torch.device) -> AxisMatrix:
    """The `AxisMatrix` of these arguments, made once."""
    return AxisMatrix(size, out, sampling, device)


def _rows(out: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, out)) for start in range(0, out, _ROWS)]


def _linear(taps: Taps) -> tuple[list[_Block], list[int], list[int]]:
    """Blocks, and of each row the range of columns that it reads."""
    return _blocks(taps.before, taps.after, 1 - taps.share, taps.share)


def _placed(taps: Taps, size: int) -> tuple[list[_Block], list[int], list[int]]:
    """Build `_linear`'s counterpart where some of the columns do not exist: what they would add is 0."""
    first, second = ((column >= 0) & (column < size) for column in (taps.before, taps.after))
    before, after = taps.before.clamp(0, size - 1), taps.after.clamp(0, size - 1)
    return _blocks(before, after, (1 - taps.share) * first, taps.share * second)


def _blocks(
    before: Tensor, after: Tensor, weight_before: Tensor, weight_after: Tensor
) -> tuple[list[_Block], list[int], list[int]]:
    starts, stops = before.tolist(), (after + 1).tolist()
    blocks = []
    for rows in _rows(len(starts)):
        columns = slice(starts[rows.start], stops[rows.stop - 1])
        weights = torch.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=torch.float64)
        weights.scatter_add_(1, (before[rows] - columns.start).unsqueeze(1), weight_before[rows].unsqueeze(1))
        weights.scatter_add_(1, (after[rows] - columns.start).unsqueeze(1), weight_after[rows].unsqueeze(1))
        blocks.append(_Block(rows, columns, weights.float()))
    return blocks, starts, stops


def _cubic(size: int, out: int) -> tuple[list[_Block], list[int], list[int]]:
    """Build `_linear`'s counterpart for the cubic B-spline: four taps times the prefilter, with scipy's edges."""
    from scipy import ndimage  # a quarter of a second to import, and not every dataset is resampled

    positions = (np.arange(out) + 0.5) * size / out - 0.5
    blocks: list[_Block] = []
    starts: list[int] = []
    stops: list[int] = []
    for rows in _rows(out):
        places = positions[rows]
        lower = np.floor(places).astype(int)
        start, stop = max(lower[0] - _REACH, -_PAD), min(lower[-1] + _REACH + 2, size + _PAD)
        voxels = np.clip(np.arange(start, stop), 0, size - 1)
        columns = slice(int(voxels[0]), int(voxels[-1]) + 1)
        stretch = np.zeros((stop - start, columns.stop - columns.start))
        stretch[np.arange(stop - start), voxels - columns.start] = 1
        coefficients = ndimage.spline_filter1d(stretch, order=3, axis=0, mode="nearest")
        f = (places - lower)[:, None]
        taps = ((1 - f) ** 3, 4 - 6 * f**2 + 3 * f**3, 4 - 6 * (1 - f) ** 2 + 3 * (1 - f) ** 3, f**3)
        base = lower - 1 - start
        weights = np.sum([tap / 6 * coefficients[base + offset] for offset, tap in enumerate(taps)], axis=0)
        blocks.append(_Block(rows, columns, torch.from_numpy(weights.astype(np.float32))))
        starts += [columns.start] * len(places)
        stops += [columns.stop] * len(places)
    return blocks, starts, stops
