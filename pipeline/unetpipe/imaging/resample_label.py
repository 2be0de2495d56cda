"""Resampling label maps: where all voxels around a place have one label, that is it, and at borders they vote."""

from collections.abc import Sequence
from functools import reduce
from math import prod

import torch
from torch import Tensor

from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.interpolation import Taps, linear_taps
from unetpipe.imaging.preprocessing import Interpolation
from unetpipe.imaging.resample import require_axes

_PLANES = 64  # of the result, finished at a time
_VOTES = 1 << 16  # counted at a time, which keeps them in the cache
_TIE = 1e-6  # scores that differ less than by rounding count as equal


def resample_label(label: Tensor, shape: Shape, interpolation: Sequence[Interpolation]) -> Tensor:
    """Resample a label map class by class, linearly (cubic is taken as linear), and take the largest.

    Along ``nearest`` axes the nearest slice is taken. No class is ever resampled as a whole: an output voxel lies
    between at most eight input voxels, and where they differ these vote with their linear weights, which is the same.

    Args:
        label: Label map of integers (1, *spatial).
        shape: Wanted voxels along each spatial axis.
        interpolation: Interpolation of the image, per axis.

    Returns:
        (1, *shape) of the same type; no class that was not there before; ties go to the lowest class.

    Raises:
        GeometryError: If the number of axes differs.
    """
    require_axes(label, shape, interpolation)
    source = label.as_subclass(Tensor)[0]
    if tuple(source.shape) == tuple(shape):
        return source.clone()[None]
    result = torch.empty(shape, dtype=label.dtype, device=label.device)
    each = zip(source.shape, shape, interpolation, strict=True)
    axes = [_Axis(linear_taps(*one), label.device) for one in each]
    for start in range(0, shape[0], _PLANES):
        planes = slice(start, start + _PLANES)
        result[planes] = _vote(source, [axes[0].part(planes), *axes[1:]])
    return result[None]


class _Axis:
    """The interpolation taps of one axis, on a device.

    Attributes:
        voxels: The one or two voxels that each new voxel lies between.
        share: Weight of the second; None where there is one.
    """

    def __init__(self, taps: Taps, device: torch.device) -> None:
        self._taps = taps
        both = bool((taps.share > 0).any())
        self.voxels = [voxel.to(device) for voxel in ((taps.before, taps.after) if both else (taps.before,))]
        self.share = taps.share.float().to(device) if both else None

    def part(self, rows: slice) -> "_Axis":
        """The axis for some of the new voxels."""
        return _Axis(Taps(*(one[rows] for one in self._taps)), self.voxels[0].device)


def _vote(source: Tensor, axes: Sequence[_Axis]) -> Tensor:
    """The label of largest weight among the voxels around each output voxel."""
    lowest = highest = source
    for axis, one in enumerate(axes):
        lowest = reduce(torch.minimum, [lowest.index_select(axis, voxel) for voxel in one.voxels])
        highest = reduce(torch.maximum, [highest.index_select(axis, voxel) for voxel in one.voxels])
    columns = (lowest != highest).nonzero(as_tuple=True)
    for places in zip(*(torch.split(column, _VOTES) for column in columns), strict=True):
        at = reduce(torch.add, [place * stride for place, stride in zip(places, _strides(lowest.shape), strict=True)])
        corners, shares = torch.zeros((1, len(at)), dtype=torch.int64, device=at.device), []
        for one, place, stride in zip(axes, places, _strides(source.shape), strict=True):
            offsets = torch.stack([voxel[place] * stride for voxel in one.voxels])
            corners = (corners[:, None] + offsets).flatten(0, 1)
            if one.share is not None:
                shares.append(one.share[place])
        lowest.view(-1)[at] = _elect(source.take(corners), shares, lowest.take(at), highest.take(at))
    return lowest


def _strides(shape: Sequence[int]) -> list[int]:
    """Distance of neighbours along each axis in a flattened array."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _elect(labels: Tensor, shares: Sequence[Tensor], lowest: Tensor, highest: Tensor) -> Tensor:
    """The label with the largest sum of weights in each column of (corner, voxel); ties go to the lowest label.

    Args:
        labels: Labels at the corners around each voxel; along the last axis the nearest corners follow each other.
        shares: Weight of the second of two neighbours along each axis, from 0 to 1.
        lowest: Lowest label of each column.
        highest: Highest label of each column.
    """
    is_highest = labels == highest
    winners = torch.where(_weighted(is_highest, shares) > 0.5 + _TIE / 2, highest, lowest)
    # Nearly everywhere that is all. Where three and more labels meet, each corner's label stands for election.
    rest = (is_highest | (labels == lowest)).logical_not_().any(dim=0).nonzero()[:, 0]
    labels, shares = labels[:, rest], [share[rest] for share in shares]
    scores = torch.stack([_weighted(labels == one, shares) for one in labels])
    elected = torch.where(scores > scores.amax(dim=0) - _TIE, labels, highest[rest]).amin(dim=0)
    winners[rest] = elected
    return winners


def _weighted(chosen: Tensor, shares: Sequence[Tensor]) -> Tensor:
    """Interpolate (corner, voxel) of yes and no to each voxel, one axis after the other."""
    values = chosen.float()
    for share in shares:
        before, after = values.chunk(2)
        values = torch.lerp(before, after, share)
    return values[0]
