"""From finished logits on the network's grid to logits on the scan's, a few planes at a time.

On a CPU that is done for one class after the other, and only inside the box where it can win: linear interpolation
stays between its neighbours, so a class whose largest neighbour is below another class's smallest one cannot be the
largest anywhere between them. On a scan with a hundred organs that leaves little more than a hundred small boxes; where
every class is possible everywhere it costs one more pass over the logits. On a GPU, where starting a kernel takes
longer than most of them run, all classes are resampled everywhere, many planes and classes together.

Shape legend: L classes; spatial axes are turned so that the slab's axis comes first, (P, A[, B]).
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unetpipe.imaging.boxes import Box, mask_box
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.interpolation import AxisMatrix, Sampling, axis_matrix
from unetpipe.inference.sliding_window import Planes

_BLOCK = 4  # voxels per side of the blocks whose extremes decide where a class can win
_VALUES_AT_ONCE = 1 << 25  # of the output, where classes are resampled whole


class SlabResampler:
    """Resamples planes as they come; keeps one input plane back, for what lies between it and the next.

    Args:
        shape: Shape of the network's array.
        out: Shape of the scan's (cropped, RAS+) grid.
        sampling: Sampling of images along each axis; logits go linearly where images go cubically.
        axis: Axis along which planes come.
    """

    def __init__(self, shape: Shape, out: Shape, sampling: Sequence[Sampling], axis: int) -> None:
        order = [axis, *(a for a in range(len(shape)) if a != axis)]
        kinds: list[Sampling] = ["linear" if sampling[a] == "cubic" else sampling[a] for a in order]
        self._axis = axis
        self._kinds = [(shape[a], out[a], kind) for a, kind in zip(order, kinds, strict=True)]
        self._kept: Tensor | None = None
        self._next = 0

    def push(self, planes: Planes) -> Iterator["Chunk"]:
        """Yield what can be computed now, a few planes at a time, on the device of these planes."""
        logits = planes.logits.movedim(1 + self._axis, 1)
        held = 0 if self._kept is None else 1
        kept = None if self._kept is None else self._kept.to(logits.device)
        axes = [axis_matrix(*kind, logits.device) for kind in self._kinds]
        along = axes[0]
        ready = along.complete(planes.first + logits.shape[1])
        at_once = _BLOCK
        if logits.device.type == "cuda":  # where few large pieces take less time than many small ones
            of_plane = math.prod(max(axis.size, axis.out) for axis in axes[1:]) * math.ceil(along.out / along.size)
            at_once = max(_BLOCK, _VALUES_AT_ONCE // (len(logits) * of_plane))
        while self._next < ready:
            low = along.inputs(self._next, self._next + 1)[0]
            end = min(along.outputs(low, low + at_once)[1], ready)
            source = _Source(kept, logits, planes.first - held, along.inputs(self._next, end))
            yield Chunk(axes, (self._next, end), source)
            self._next = end
        self._kept = logits[:, -1:].clone()


@dataclass(frozen=True)
class _Source:
    """Input planes of a chunk, of which the first may have been kept from the slab before."""

    kept: Tensor | None
    logits: Tensor
    first: int
    planes: tuple[int, int]

    def of(self, classes: slice) -> Tensor:
        """Logits of some classes, (L, P, A[, B])."""
        a, b = self.planes[0] - self.first, self.planes[1] - self.first
        if self.kept is None:
            return self.logits[classes, a:b]
        if a > 0:
            return self.logits[classes, a - 1 : b - 1]
        return torch.cat([self.kept[classes], self.logits[classes, : b - 1]], 1)


@dataclass(frozen=True)
class Chunk:
    """A few output planes, still to be computed.

    Attributes:
        axes: Resampling matrices of the axes, the slab's axis first.
        planes: Range along the slab's axis in the output.
    """

    axes: Sequence[AxisMatrix]
    planes: tuple[int, int]
    source: _Source

    @property
    def classes(self) -> int:
        """Number of classes, L."""
        return len(self.source.logits)

    @property
    def device(self) -> torch.device:
        """Device of the logits."""
        return self.source.logits.device

    @property
    def shape(self) -> Shape:
        """Shape of the output: (P, A[, B])."""
        return (self.planes[1] - self.planes[0], *(axis.out for axis in self.axes[1:]))

    def values(self, label: int, box: Box | None = None) -> Tensor:
        """Resampled logits of one class, (P, A[, B]), whole or inside a box of the output across the planes."""
        return self._resampled(slice(label, label + 1), box)[0]

    def groups(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the resampled logits of all classes, some at a time: the number of the first, and (some, P, A[, B])."""
        at_once = max(1, _VALUES_AT_ONCE // math.prod(self.shape)) if self.device.type == "cuda" else 1
        for first in range(0, self.classes, at_once):
            yield first, self._resampled(slice(first, first + at_once))

    def _resampled(self, classes: slice, box: Box | None = None) -> Tensor:
        across = self.axes[1:]
        ranges = [(part.start, part.stop) for part in box] if box else [(0, axis.out) for axis in across]
        inputs = [slice(*axis.inputs(*wanted)) for axis, wanted in zip(across, ranges, strict=True)]
        data = self.axes[0].apply(self.source.of(classes)[(slice(None), slice(None), *inputs)], 1, self.planes)
        for dim, (axis, wanted) in enumerate(zip(across, ranges, strict=True), start=2):
            data = axis.apply(data, dim, wanted)
        return data

    def resampled(self) -> "Chunk":
        """The same planes with all classes computed: nothing is left to be resampled."""
        logits = torch.cat([values for _, values in self.groups()])
        axes = [axis_matrix(size, size, "linear", self.device) for size in self.shape]
        count = self.shape[0]
        return Chunk(axes, (0, count), _Source(None, logits, 0, (0, count)))

    def boxes(self) -> list[Box | None]:
        """The box of each class across the output planes outside of which it cannot win; None if it never wins."""
        if all(axis.is_identity for axis in self.axes):
            return [tuple(slice(0, n) for n in self.shape[1:])] * self.classes
        each = (self.source.of(slice(label, label + 1))[0] for label in range(self.classes))
        largest, smallest = zip(*map(_block_extremes, each), strict=True)
        threshold = torch.stack(smallest).amax(dim=0)
        return [self._box(extreme >= threshold) for extreme in largest]

    def _box(self, possible: Tensor) -> Box | None:
        """The outputs whose neighbours lie in the box of blocks where a class can win."""
        blocks = mask_box(possible.cpu().numpy())
        if blocks is None:
            return None
        pairs = zip(self.axes[1:], blocks, strict=True)
        ranges = [axis.outputs(part.start * _BLOCK, part.stop * _BLOCK) for axis, part in pairs]
        return None if any(a == b for a, b in ranges) else tuple(slice(a, b) for a, b in ranges)


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


def label_dtype(classes: int) -> torch.dtype:
    """The smallest type for class indices."""
    return torch.uint8 if classes <= 256 else torch.int16
