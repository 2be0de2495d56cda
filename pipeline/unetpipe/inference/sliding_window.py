"""Sliding windows over a volume whose logits never exist as a whole: planes are finished one after the other.

Shape legend: B batch, C channels, L classes; spatial axes are (I, J, K) or (I, J). A *slab* is the stretch of planes
along one axis that windows still touch; it is as thick as the patch.

Windows lie where MONAI's `sliding_window_inference` puts them, with the same weights and padding, so that a bundle
gives the same labels here and there.
"""

import itertools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from unetpipe.documents import Record
from unetpipe.errors import is_out_of_memory
from unetpipe.imaging.geometry import Shape

log = logging.getLogger(__name__)

STEP = 0.5
"""Distance between windows as a fraction of the patch, unless asked otherwise; as nnU-Net has it."""
_SMALLEST_WEIGHT = 1e-3  # MONAI's floor
_CLASSES_AT_ONCE = 16  # bounds copies: of half-precision logits in float32, and of planes that move up


class Blending(Record):
    """How overlapping windows are averaged, and what lies around a volume that is smaller than a window.

    Attributes:
        sigma_scale: Standard deviation of the Gaussian weights, as a fraction of the patch; nnU-Net and MONAI take an
            eighth. None weighs all voxels of a window alike, as MONAI does unless asked.
        padding: Mode of `torch.nn.functional.pad`.
        fill: Value around the volume where the mode is ``constant``.
        convention: Whose details are followed. MONAI's windows keep their distance and the last one moves back;
            nnU-Net's lie at equal distances. nnU-Net's Gaussian is centred on a voxel and ends at four sigmas.
    """

    sigma_scale: float | None = 0.125
    padding: Literal["constant", "reflect", "replicate", "circular"] = "constant"
    fill: float = 0.0
    convention: Literal["monai", "nnunet"] = "monai"


GAUSSIAN = Blending()


@dataclass(frozen=True)
class Windows:
    """The positions of the windows over one volume.

    Attributes:
        shape: Shape of the volume.
        patch: Shape of a window.
        starts: Where windows start along each axis of the volume, padded to at least one patch; ascending.
        blending: How windows are averaged and the volume padded.
    """

    shape: Shape
    patch: Shape
    starts: tuple[tuple[int, ...], ...]
    blending: Blending = GAUSSIAN

    @classmethod
    def over(cls, shape: Shape, patch: Shape, step: float, blending: Blending = GAUSSIAN) -> "Windows":
        """Lay windows at most `step` patches apart, the last one flush with the end."""
        along = _even_starts if blending.convention == "nnunet" else _starts
        starts = tuple(along(max(n, p), p, step) for n, p in zip(shape, patch, strict=True))
        return cls(shape, patch, starts, blending)

    @property
    def count(self) -> int:
        """Number of windows."""
        return math.prod(map(len, self.starts))

    @property
    def padded(self) -> Shape:
        """Shape of the volume, padded to the patch where it is smaller."""
        return tuple(max(n, p) for n, p in zip(self.shape, self.patch, strict=True))

    @property
    def before(self) -> Shape:
        """Number of zeros before the volume along each axis; of an odd number the larger half comes after it."""
        return tuple((big - n) // 2 for big, n in zip(self.padded, self.shape, strict=True))

    def in_layers(self, axis: int) -> Iterator[tuple[int, ...]]:
        """Yield the first voxel of each window, in ascending order along `axis`."""
        others = [range_ for a, range_ in enumerate(self.starts) if a != axis]
        for first in self.starts[axis]:
            for rest in itertools.product(*others):
                yield (*rest[:axis], first, *rest[axis:])

    def thinnest_axis(self) -> int:
        """Return the axis along which a slab holds the fewest voxels."""
        cells = [math.prod(self.padded) // n * p for n, p in zip(self.padded, self.patch, strict=True)]
        return cells.index(min(cells))


def _starts(size: int, patch: int, step: float) -> tuple[int, ...]:
    if size == patch:
        return (0,)
    interval = max(1, int(patch * (1 - (1 - step))))  # MONAI's arithmetic: overlap = 1 - step
    return tuple(min(n * interval, size - patch) for n in range(math.ceil((size - patch) / interval) + 1))


def _even_starts(size: int, patch: int, step: float) -> tuple[int, ...]:
    """nnU-Net's ``compute_steps_for_sliding_window``."""
    intervals = math.ceil((size - patch) / (patch * step))
    return tuple(round((size - patch) / intervals * n) for n in range(intervals + 1)) if intervals else (0,)


def window_weights(patch: Shape, blending: Blending = GAUSSIAN) -> Tensor:
    """Return Gaussian weights (*patch) with their peak in the centre of the window, never 0; or ones.

    Source:
        `monai.data.utils.compute_importance_map`, modes "gaussian" and "constant", or nnU-Net's ``compute_gaussian``.
    """
    if blending.sigma_scale is None:
        return torch.ones(patch)
    weights = torch.ones(())
    for size in patch:
        sigma = blending.sigma_scale * size
        if blending.convention == "nnunet":
            x = (torch.arange(size) - size // 2).float()
            values = torch.exp(x**2 / (-2 * sigma**2)) * (x.abs() <= int(4 * sigma + 0.5))
        else:
            x = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
            values = torch.exp(x**2 / (-2 * sigma**2))
        weights = weights.unsqueeze(-1) * values
    if blending.convention == "nnunet":
        return torch.where(weights > 0, weights, weights[weights > 0].min())
    return weights.clamp_min(max(float(weights.min()), _SMALLEST_WEIGHT))


@dataclass(frozen=True)
class Planes:
    """Finished logits of consecutive planes.

    Attributes:
        axis: Spatial axis along which planes follow each other.
        first: Index of the first plane in the volume.
        logits: float32 (L, *spatial), with as many entries along `axis` as there are planes. Valid until the next
            planes are asked for.
    """

    axis: int
    first: int
    logits: Tensor


def central_window(image: Tensor, patch: Shape, blending: Blending = GAUSSIAN) -> Tensor:
    """The window (1, C, *patch) in the middle of a volume (C, *spatial), padded as windows are."""
    windows = Windows.over(tuple(image.shape[1:]), patch, STEP, blending)
    corner = tuple((n - p) // 2 for n, p in zip(windows.padded, patch, strict=True))
    return padded_image(image, windows)[window_box(corner, patch)][None]


def new_slab(windows: Windows, axis: int, logits: Tensor) -> "Slab":
    """Begin the sums of a volume's logits on the device of a window's (L, *patch), or on the CPU if they do not fit."""
    try:
        return Slab(windows, axis, len(logits), logits.device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        log.warning("out of memory: summing logits on the CPU")
        return Slab(windows, axis, len(logits), torch.device("cpu"))


def window_box(corner: tuple[int, ...], patch: Shape) -> tuple[slice, ...]:
    """The slices of (C, *spatial) that hold the window whose first voxel is `corner`."""
    return (slice(None), *(slice(start, start + size) for start, size in zip(corner, patch, strict=True)))


def padded_image(image: Tensor, windows: Windows) -> Tensor:
    """A volume (C, *spatial) padded to at least one window, as the windows' blending says."""
    sides = [(b, p - n - b) for n, p, b in zip(windows.shape, windows.padded, windows.before, strict=True)]
    if not any(itertools.chain(*sides)):
        return image
    blending = windows.blending
    value = blending.fill if blending.padding == "constant" else None
    return functional.pad(image[None], [n for side in reversed(sides) for n in side], blending.padding, value)[0]


class Slab:
    """Weighted sums of logits over the planes that windows still touch."""

    def __init__(self, windows: Windows, axis: int, classes: int, device: torch.device) -> None:
        self._windows = windows
        self._axis = axis
        shape = list(windows.padded)
        shape[axis] = windows.patch[axis]
        self._sum = torch.zeros((classes, *shape), device=device)
        self._weight = torch.zeros((1, *shape), device=device)
        self._weights_of_window = window_weights(windows.patch, windows.blending).to(device)
        self._first = 0

    @property
    def device(self) -> torch.device:
        """Device of the sums."""
        return self._sum.device

    def move_to_cpu(self) -> None:
        """Go on with sums on the CPU; planes that were handed out before are no more."""
        before = self._sum
        self._sum, self._weight, self._weights_of_window = (
            tensor.cpu() for tensor in (before, self._weight, self._weights_of_window)
        )
        if before.device.type != "cpu":
            before.untyped_storage().resize_(0)  # those planes may still be somebody's

    def add(self, corner: tuple[int, ...], logits: Tensor) -> None:
        """Add one window's logits (L, *patch). Its corner lies at the slab's first plane along the axis."""
        within = window_box((*corner[: self._axis], 0, *corner[self._axis + 1 :]), self._windows.patch)
        self._weight[within].add_(self._weights_of_window)
        total = self._sum[within]
        for start in range(0, len(logits), _CLASSES_AT_ONCE):
            some = logits[start : start + _CLASSES_AT_ONCE].to(total.device, torch.float32)
            total[start : start + _CLASSES_AT_ONCE].addcmul_(some, self._weights_of_window)

    def advance(self, start: int) -> Iterator[Planes]:
        """Yield the planes before `start` and make room for as many behind."""
        count = start - self._first
        if count == 0:
            return
        done = self._sum.narrow(self._axis + 1, 0, count).div_(self._weight.narrow(self._axis + 1, 0, count))
        lows = list(self._windows.before)
        highs = [low + n for low, n in zip(lows, self._windows.shape, strict=True)]
        low, high = lows[self._axis], highs[self._axis]
        lows[self._axis] = max(low - self._first, 0)
        highs[self._axis] = min(high - self._first, count)
        if highs[self._axis] > lows[self._axis]:
            inside = (slice(None), *(slice(a, b) for a, b in zip(lows, highs, strict=True)))
            yield Planes(self._axis, max(self._first - low, 0), done[inside])
        self._first = start
        thickness = self._windows.patch[self._axis]
        along, left = self._axis + 1, max(thickness - count, 0)
        for some in itertools.chain(torch.split(self._sum, _CLASSES_AT_ONCE), [self._weight]):
            for at in range(0, left, count):  # as many at a time as do not lie over each other
                part = min(count, left - at)
                some.narrow(along, at, part).copy_(some.narrow(along, at + count, part))
            some.narrow(along, max(thickness - count, 0), min(count, thickness)).zero_()
