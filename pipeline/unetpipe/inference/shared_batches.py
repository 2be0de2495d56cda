"""Windows of volumes that follow each other, computed in batches that neighbours share.

A small volume has one window or a few, and a window alone leaves most of a device idle. So what a volume leaves open of
a batch is filled with windows of the volumes behind it, which are asked for that much ahead. Volumes are still finished
one after the other, and what stops one of them stops no other.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from unetpipe.errors import is_out_of_memory
from unetpipe.imaging.geometry import Shape
from unetpipe.inference.agreement import Agreement
from unetpipe.inference.sliding_window import Planes, Slab, Windows, new_slab, padded_image, window_box

log = logging.getLogger(__name__)

Forward = Callable[[Tensor, Sequence[Agreement]], Tensor]
"""(B, C, *patch), and for each window the agreement to count its members in, to logits (B, L, *patch)."""


@dataclass(frozen=True)
class VolumePlanes:
    """One volume's logits.

    Attributes:
        planes: Planes from the first to the last, computed as they are asked for. They cover the volume once, and have
            to be asked for before the next volume is.
        agreement: Agreement of the networks over the windows computed so far.
    """

    planes: Iterator[Planes]
    agreement: Agreement


@dataclass
class _Volume:
    """A volume whose windows are being computed."""

    windows: Windows
    axis: int
    padded: Tensor
    corners: Iterator[tuple[int, ...]]
    agreement: Agreement = field(default_factory=Agreement)
    computed: deque[tuple[tuple[int, ...], Tensor]] = field(default_factory=deque)
    slab: Slab | None = None
    fault: Exception | None = None


_Chosen = Sequence[tuple[_Volume, tuple[int, ...]]]


class SharedBatches:
    """Mean logits of volumes, one volume after the other.

    Where the memory of the network's device does not hold a slab, or no window beside it, logits are summed on the CPU.

    Args:
        images: Functions that give (C, *spatial), best on the network's device. They are called when their windows are
            needed; what they raise, the planes of their volume raise.
        lay: Windows over a volume of some shape; all have the same patch.
        forward: Networks.
        batch: Windows per call of `forward`.
    """

    def __init__(
        self, images: Iterable[Callable[[], Tensor]], lay: Callable[[Shape], Windows], forward: Forward, batch: int
    ) -> None:
        self._images = iter(images)
        self._lay, self._forward, self._batch = lay, forward, batch
        self._open: deque[_Volume] = deque()

    def __iter__(self) -> Iterator[VolumePlanes]:
        """Yield each volume; windows of one whose planes were not all asked for are not computed any more."""
        while self._open or self._take():
            volume = self._open[0]
            yield VolumePlanes(self._planes(volume), volume.agreement)
            self._open.popleft()

    def _take(self) -> bool:
        """Ask for one more volume; False if there is none."""
        image = next(self._images, None)
        if image is None:
            return False
        self._open.append(self._opened(image))
        return True

    def _opened(self, image: Callable[[], Tensor]) -> _Volume:
        try:
            values = image()
            windows = self._lay(tuple(values.shape[1:]))
            axis = windows.thinnest_axis()
            return _Volume(windows, axis, padded_image(values, windows), windows.in_layers(axis))
        except Exception as error:
            return _Volume(Windows((), (), ()), 0, torch.empty(0), iter(()), fault=error)

    def _planes(self, volume: _Volume) -> Iterator[Planes]:
        for _ in range(volume.windows.count):
            if not volume.computed and volume.fault is None:
                self._compute()
            if volume.fault is not None:
                raise volume.fault
            corner, logits = volume.computed.popleft()
            volume.slab = slab = volume.slab or new_slab(volume.windows, volume.axis, logits)
            yield from slab.advance(corner[volume.axis])
            slab.add(corner, logits)
            del logits  # before the next ones are computed
        assert volume.slab is not None
        yield from volume.slab.advance(volume.windows.padded[volume.axis])

    def _compute(self) -> None:
        """Compute the next windows, of as many volumes as they are of."""
        chosen: list[tuple[_Volume, tuple[int, ...]]] = []
        place = 0
        while len(chosen) < self._batch and (place < len(self._open) or self._take()):
            volume = self._open[place]
            chosen += ((volume, corner) for corner in islice(volume.corners, self._batch - len(chosen)))
            place += 1
        if self._fault_of(chosen) is None:
            return
        for volume in {id(volume): volume for volume, _ in chosen}.values():
            own, slab = [one for one in chosen if one[0] is volume], self._open[0].slab
            fault = self._fault_of(own)
            if fault is not None and is_out_of_memory(fault) and slab is not None and slab.device.type != "cpu":
                log.warning("out of memory: summing logits on the CPU")
                slab.move_to_cpu()
                fault = self._fault_of(own)
            volume.fault = fault

    def _fault_of(self, chosen: _Chosen) -> Exception | None:
        """Compute windows, or say what stopped that: memory that ran out without the tensors of its traceback."""
        try:
            self._run(chosen)
        except Exception as error:
            return error.with_traceback(None) if is_out_of_memory(error) else error
        return None

    def _run(self, chosen: _Chosen) -> None:
        windows = [volume.padded[window_box(corner, volume.windows.patch)] for volume, corner in chosen]
        logits = self._forward(torch.stack(windows), [volume.agreement for volume, _ in chosen])
        for (volume, corner), one in zip(chosen, logits, strict=True):
            volume.computed.append((corner, one))
