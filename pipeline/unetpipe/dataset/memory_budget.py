"""Holding work back so that what is in flight fits in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from threading import Condition

import numpy as np

from unetpipe.dataset.manifest import Case
from unetpipe.errors import UnetpipeError
from unetpipe.imaging.files import read_grid
from unetpipe.imaging.geometry import Shape, Spacing
from unetpipe.imaging.preprocessing import Preprocessing


class MemoryBudget:
    """Lets work begin while the bytes it estimates fit under a limit; a single piece may always go alone.

    Args:
        limit_bytes: Limit in bytes; None does not limit.
    """

    def __init__(self, limit_bytes: int | None) -> None:
        self._limit = limit_bytes
        self._used = 0
        self._changed = Condition()

    @contextmanager
    def hold(self, estimated_bytes: int) -> Iterator[None]:
        """Wait until there is room, and take it until the context ends."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._limit is None or self._used == 0 or self._used + estimated_bytes <= self._limit
            )
            self._used += estimated_bytes
        try:
            yield
        finally:
            with self._changed:
                self._used -= estimated_bytes
                self._changed.notify_all()


def check_bytes(case: Case) -> int:
    """Estimated peak memory of checking a case; 0 where its files cannot be read."""
    try:
        grids = [read_grid(*source) for source in case.sources]
    except (UnetpipeError, OSError):
        return 0
    image = sum(channels * prod(grid.shape) for channels, grid in grids)
    return 4 * image + 3 * prod(grids[0][1].shape)


def preparation_bytes(shape: Shape, spacing_mm: Spacing, channels: int, spec: Preprocessing) -> int:
    """Estimated peak memory of preparing a case.

    Args:
        shape: Shape of the image in its file, in any axis order that `spacing_mm` shares.
        spacing_mm: Voxel size of the image in its file.
        channels: Number of channels.
        spec: Preprocessing of the image.
    """
    source = float(np.prod(shape))
    target = source * float(np.prod(spacing_mm) / np.prod(spec.spacing_mm))
    stored = 2 * target * (channels + 1)
    # the image as read, the crop of one channel, and that channel resampled
    imaging = 4 * source * (channels + 1) + 4 * target
    if not spec.only_normalizes:  # all channels before and after a step
        imaging += 8 * source * channels
    # the label as read and numbered, its resampling
    labelling = 6 * source + 6 * target
    return int(stored + max(imaging, labelling))
