"""From finished logits on the network's grid to labels on the scan's, a few planes and one class at a time.

A class is resampled only inside the box where it can win: linear interpolation stays between its neighbours, so a class
whose largest neighbour is below another class's smallest one cannot be the largest anywhere between them. On a scan
with a hundred organs that leaves little more than a hundred small boxes; where every class is possible everywhere it
costs one more look at the logits.

Shape legend: L classes; spatial axes are turned so that the slab's axis comes first, (P, A[, B]).
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unetpipe.errors import UnetpipeError
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.preprocessing import Interpolation
from unetpipe.inference.sliding_window import Planes

_ROWS = 64  # outputs that share a matrix
_BLOCK = 4  # voxels per side of the blocks whose extremes decide where a class can win


@dataclass(frozen=True)
class Taps:
    """Linear or nearest resampling along one axis, edges aligned: an output is (1 - t) input[low] + t input[low + 1].

    Attributes:
        size: Input voxels.
        device: Of the data.
        low: Per output voxel, ascending.
        fraction: t in [0, 1), same length; 0 at `low` = `size` - 1.
    """

    size: int
    device: torch.device
    low: Tensor
    fraction: Tensor

    @classmethod
    def between(cls, size: int, out: int, interpolation: Interpolation, device: torch.device) -> "Taps":
        centres = (torch.arange(out, dtype=torch.float64) + 0.5) * size / out
        if interpolation == "nearest":
            low = centres.floor().long().clamp(0, size - 1)
            return cls(size, device, low, torch.zeros(out, dtype=torch.float64))
        positions = (centres - 0.5).clamp(0, size - 1)
        low = positions.floor().long()
        return cls(size, device, low, positions - low)

    @property
    def is_identity(self) -> bool:
        return len(self.low) == self.size

    @property
    def last(self) -> Tensor:
        """Highest input voxel that each output voxel needs."""
        return self.low + (self.fraction > 0)

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        return list(zip(self.low.tolist(), self.last.tolist(), strict=True))

    def outputs(self, first: int, stop: int) -> tuple[int, int]:
        """Range of outputs whose `low` lies in [first, stop)."""
        bounds = torch.searchsorted(self.low, torch.tensor([first, stop]))
        return int(bounds[0]), int(bounds[1])

    def inputs(self, first: int, stop: int) -> tuple[int, int]:
        """Range of inputs that outputs [first, stop) need."""
        return self._spans[first][0], self._spans[stop - 1][1] + 1

    @cached_property
    def _blocks(self) -> list[tuple[int, int, Tensor]]:
        """First output, first input and matrix of each stretch of outputs: a few dozen columns instead of all."""
        blocks = []
        for first in range(0, len(self.low), _ROWS):
            rows = (first, min(first + _ROWS, len(self.low)))
            inputs = self.inputs(*rows)
            blocks.append((first, inputs[0], self.matrix(rows, inputs).to(self.device)))
        return blocks

    def apply(self, data: Tensor, dim: int, outputs: tuple[int, int]) -> Tensor:
        """Resample along one axis of (P, A[, B]) to a range of outputs; `data` begins at the first input they need."""
        offset = self._spans[outputs[0]][0]
        result = data.new_empty((*data.shape[:dim], outputs[1] - outputs[0], *data.shape[dim + 1 :]))
        for row, column, matrix in self._blocks:
            a, b = max(row, outputs[0]), min(row + len(matrix), outputs[1])
            if a >= b:
                continue
            first, stop = self.inputs(a, b)
            part = matrix[a - row : b - row, first - column : stop - column]
            source = data.narrow(dim, first - offset, stop - first)
            product = source @ part.T if dim == data.ndim - 1 else part @ source
            result.narrow(dim, a - outputs[0], b - a).copy_(product)
        return result

    def matrix(self, outputs: tuple[int, int], inputs: tuple[int, int]) -> Tensor:
        """Dense float32 matrix (outputs, inputs)."""
        low = (self.low[slice(*outputs)] - inputs[0]).unsqueeze(1)
        fraction = self.fraction[slice(*outputs)].unsqueeze(1)
        matrix = torch.zeros((len(low), inputs[1] - inputs[0]), dtype=torch.float64)
        matrix.scatter_(1, low, 1 - fraction)
        high = (low + 1).clamp_max(matrix.shape[1] - 1)
        return matrix.scatter_add_(1, high, fraction).float()


class SlabResampler:
    """Resamples planes as they come; keeps one input plane back, for what lies between it and the next.

    Args:
        shape: Of the network's grid.
        out: Of the scan's (cropped, RAS+) grid.
        interpolation: Of images along each axis; logits go linearly where images go cubically.
        axis: Along which planes come.
        device: Where planes are.
    """

    def __init__(
        self, shape: Shape, out: Shape, interpolation: Sequence[Interpolation], axis: int, device: torch.device
    ) -> None:
        order = [axis, *(a for a in range(len(shape)) if a != axis)]
        self._axis = axis
        self._taps = [Taps.between(shape[a], out[a], interpolation[a], device) for a in order]
        self.out = tuple(out[a] for a in order)
        self._kept: Tensor | None = None
        self._next = 0

    def push(self, planes: Planes) -> Iterator["Chunk"]:
        """Yield what can be computed now, a few planes at a time."""
        logits = planes.logits.movedim(1 + self._axis, 1)
        held = 0 if self._kept is None else 1
        stop = planes.first + logits.shape[1]
        along = self._taps[0]
        ready = int(torch.searchsorted(along.last, stop))
        while self._next < ready:
            low = int(along.low[self._next])
            end = min(along.outputs(low, low + _BLOCK)[1], ready)
            if end == self._next:
                break
            inputs = along.inputs(self._next, end)
            yield Chunk(self._taps, (self._next, end), _Source(self._kept, logits, planes.first - held, inputs))
            self._next = end
        self._kept = logits[:, -1:].clone()


@dataclass(frozen=True)
class _Source:
    """Input planes of a chunk, of which the first may have been kept from the slab before."""

    kept: Tensor | None
    logits: Tensor
    first: int
    planes: tuple[int, int]

    def of(self, label: int) -> Tensor:
        """One class, (P, A[, B])."""
        a, b = self.planes[0] - self.first, self.planes[1] - self.first
        if self.kept is None:
            return self.logits[label, a:b]
        if a > 0:
            return self.logits[label, a - 1 : b - 1]
        return torch.cat([self.kept[label], self.logits[label, : b - 1]])


@dataclass(frozen=True)
class Chunk:
    """A few output planes, still to be computed.

    Attributes:
        taps: Per axis, the slab's first.
        planes: Range along the slab's axis in the output.
    """

    taps: list[Taps]
    planes: tuple[int, int]
    source: _Source

    @property
    def classes(self) -> int:
        return len(self.source.logits)

    @property
    def shape(self) -> Shape:
        """Of the output: (P, A[, B])."""
        return (self.planes[1] - self.planes[0], *(len(taps.low) for taps in self.taps[1:]))

    def values(self, label: int, box: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """Resampled logits of one class, whole or inside a box of the output across the planes."""
        taps = self.taps[1:]
        ranges = box or [(0, len(t.low)) for t in taps]
        inputs = [t.inputs(*r) for t, r in zip(taps, ranges, strict=True)]
        data = self.source.of(label)[(slice(None), *(slice(*r) for r in inputs))]
        if not self.taps[0].is_identity:
            data = torch.tensordot(self._along, data, dims=1)
        for dim, (t, wanted) in enumerate(zip(taps, ranges, strict=True), start=1):
            if not t.is_identity:
                data = t.apply(data, dim, wanted)
        return data

    @cached_property
    def _along(self) -> Tensor:
        return self.taps[0].matrix(self.planes, self.source.planes).to(self.taps[0].device)

    def all_values(self) -> Tensor:
        """Resampled logits of all classes, (L, P, A[, B])."""
        return torch.stack([self.values(label) for label in range(self.classes)])

    def boxes(self) -> list[list[tuple[int, int]] | None]:
        """Per class the box across the output planes outside of which it cannot win; None if it cannot win at all."""
        largest, smallest = zip(*(_block_extremes(self.source.of(label)) for label in range(self.classes)), strict=True)
        threshold = torch.stack(smallest).amax(dim=0)
        return [self._box(extreme >= threshold) for extreme in largest]

    def _box(self, possible: Tensor) -> list[tuple[int, int]] | None:
        if not possible.any():
            return None
        box = []
        for axis, taps in enumerate(self.taps[1:]):
            others = [a for a in range(possible.ndim) if a != axis]
            hits = (possible.any(dim=others[0]) if others else possible).nonzero().squeeze(1)
            first, stop = int(hits[0]) * _BLOCK, (int(hits[-1]) + 1) * _BLOCK
            box.append(taps.outputs(first, stop))
        return None if any(a == b for a, b in box) else box


def _block_extremes(data: Tensor) -> tuple[Tensor, Tensor]:
    """Largest and smallest value over all planes of each block across (A[, B]) and the voxel behind it, per axis."""
    return _reduced(data, torch.maximum), _reduced(data, torch.minimum)


def _reduced(data: Tensor, pairwise: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    # Pairs of strided views: torch's own reductions over short axes are several times slower.
    x = functools.reduce(pairwise, data.unbind(0))
    for dim in range(x.ndim):
        size = x.shape[dim]
        offsets = [torch.arange(0, size, _BLOCK).add_(n).clamp_max_(size - 1) for n in range(_BLOCK + 1)]
        x = functools.reduce(pairwise, (x.index_select(dim, offset.to(x.device)) for offset in offsets))
    return x


def last_region(chunk: Chunk) -> Tensor:
    """The last region whose logit is above 0, shape (P, A[, B]), uint8 or int16; 0 is none of them, n the n-th.

    Raises:
        UnetpipeError: If a logit is not a number.
    """
    device = chunk.source.logits.device
    labels = torch.zeros(chunk.shape, dtype=label_dtype(chunk.classes + 1), device=device)
    for region in range(chunk.classes):
        values = chunk.values(region)
        if not torch.isfinite(values).all():
            raise UnetpipeError("the network's output is not a number somewhere: try --precision fp32")
        labels.masked_fill_(values > 0, region + 1)
    return labels


def largest_class(chunk: Chunk) -> Tensor:
    """Class of the largest logit, shape (P, A[, B]), uint8 or int16; ties go to the lower class.

    Raises:
        UnetpipeError: If a logit is not a number.
    """
    device = chunk.source.logits.device
    best = torch.full(chunk.shape, -math.inf, device=device)
    labels = torch.zeros(chunk.shape, dtype=label_dtype(chunk.classes), device=device)
    prune = not all(taps.is_identity for taps in chunk.taps)
    boxes = chunk.boxes() if prune else [[(0, n) for n in chunk.shape[1:]]] * chunk.classes
    for label, box in enumerate(boxes):
        if box is None:
            continue
        within = (slice(None), *(slice(*r) for r in box))
        values = chunk.values(label, box)
        here = best[within]
        labels[within].masked_fill_(values > here, label)
        torch.maximum(here, values, out=here)
    if not torch.isfinite(best).all():
        raise UnetpipeError("the network's output is not a number somewhere: try --precision fp32")
    return labels


def label_dtype(classes: int) -> torch.dtype:
    """The smallest type for class indices."""
    return torch.uint8 if classes <= 256 else torch.int16
