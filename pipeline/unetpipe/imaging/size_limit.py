"""The number of voxels that one image may have, so that a header alone cannot make the process take all memory.

A stage sets it for its run, whichever thread reads. A format asks as soon as it has read a header.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod

from unetpipe.config.base import MAX_VOXELS
from unetpipe.errors import ImageFileError

_allowed: list[int] = []  # the limits of all stages that run in this process; the highest counts
_LARGEST_VOXEL = 8  # bytes
_HEADERS = 1 << 26  # bytes that a file may hold beside its voxels, 64 MiB


@contextmanager
def reading_at_most(voxels: int) -> Iterator[None]:
    """Let images have up to so many voxels, all channels counted, in place of `MAX_VOXELS`."""
    _allowed.append(voxels)
    try:
        yield
    finally:
        _allowed.remove(voxels)


def refuse_beyond_limit(shape: Sequence[int], channels: int = 1) -> None:
    """See that an image may be read.

    Args:
        shape: Voxels along each axis.
        channels: Number of channels.

    Raises:
        ImageFileError: If it has more voxels than the limit.
    """
    if prod(shape) * channels > (limit := max(_allowed, default=MAX_VOXELS)):
        size = " x ".join(map(str, shape)) + (f" x {channels} channels" if channels > 1 else "")
        raise ImageFileError(f"{size} voxels are more than the {limit:,} that --max-voxels allows")


def refuse_large(what: str, size: int) -> None:
    """See that a file may be taken into memory as a whole.

    Args:
        what: What is large, such as ``a file in the zip``.
        size: Size in bytes.

    Raises:
        ImageFileError: If it is larger than the largest image that may be read.
    """
    if size > (limit := max(_allowed, default=MAX_VOXELS) * _LARGEST_VOXEL + _HEADERS):
        raise ImageFileError(f"{what} has {size:,} bytes, more than the {limit:,} that --max-voxels allows")
