"""What one look at a case tells: enough for the fingerprint and for comparing cases, small enough to keep."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.documents import Record
from unetpipe.errors import ImageFileError
from unetpipe.imaging.files import code_digest, files_of
from unetpipe.imaging.geometry import Shape, Spacing
from unetpipe.imaging.labels import whole_numbers

QUANTILES = 501
"""Of a channel's foreground: every 0.2 %, and so the extremes."""
QUANTILE_SAMPLE = 100_000
"""Foreground voxels that quantiles are taken from, evenly spread over the foreground."""
BLOCKS = 8
"""Per axis, of the signature."""
_CHUNK = 1 << 22
"""Voxels looked at in one go: fits the caches, and bounds the memory that passes over a volume need."""


class Foreground(Record):
    """Intensities where the label is not background: exact moments, and quantiles from the least to the greatest."""

    mean: float
    std: float
    quantiles: tuple[float, ...]


class ChannelStatistics(Record):
    """Intensities of one channel; `foreground` is None where the label is empty."""

    minimum: float
    maximum: float
    foreground: Foreground | None


class CaseStatistics(Record):
    """One case, in RAS+ axis order.

    Attributes:
        content: Hash of the files' bytes.
        shape, spacing_mm: Of the image.
        cropped_shape: Of the box around voxels that are not 0 in some channel.
        label_counts: Voxels of each label value that occurs.
        image_hash: Of the image's mean and a sample of its voxels, whatever format they are stored in.
        signature: Means over 8 blocks along each axis, first channel, scaled to 0-255.
        affine_adopted: The label lay elsewhere than the image and takes the image's place.
    """

    id: str
    content: str
    shape: Shape
    spacing_mm: Spacing
    cropped_shape: Shape
    label_counts: Mapping[int, int]
    channels: tuple[ChannelStatistics, ...]
    image_hash: str
    signature: tuple[int, ...]
    affine_adopted: bool = False


def content_hash(paths: Sequence[Path]) -> str:
    """Hash the bytes of files and folders, and an extension's code that reads them.

    Of a folder its files, by name; of a header the files that hold its voxels, too.
    """
    digest = hashlib.sha256()
    for path in paths:
        members = sorted(member for member in path.iterdir() if member.is_file()) if path.is_dir() else files_of(path)
        for member in members:
            with member.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        digest.update(code_digest(path).encode())
    return digest.hexdigest()


def label_counts(label: NDArray[Any]) -> dict[int, int] | None:
    """Voxels of each value in a label map of any shape; None if some value is no integer."""
    counts: dict[int, int] = {}
    for stored in _chunks(label):
        try:
            chunk: NDArray[Any] = whole_numbers(stored)
        except ImageFileError:
            return None
        low, high = int(chunk.min()), int(chunk.max())
        if low >= 0 and high < 4096:
            found = _count_bytes(chunk) if chunk.dtype == np.uint8 else np.bincount(chunk)
            values = np.flatnonzero(found)
            found = found[values]
        else:
            values, found = np.unique(chunk, return_counts=True)
        for value, count in zip(values.tolist(), found.tolist(), strict=True):
            counts[value] = counts.get(value, 0) + count
    return dict(sorted(counts.items()))


def _count_bytes(chunk: NDArray[np.uint8]) -> NDArray[np.int64]:
    """``np.bincount`` of bytes, two at a time: it spends its time on widening them."""
    even = chunk[: len(chunk) // 2 * 2]
    pairs = np.bincount(even.view(np.uint16), minlength=1 << 16).reshape(256, 256)
    counts: NDArray[np.int64] = pairs.sum(axis=0) + pairs.sum(axis=1)
    return counts + np.bincount(chunk[len(even) :], minlength=256)


def channel_statistics(image: NDArray[Any], label: NDArray[Any], outside: Sequence[int]) -> ChannelStatistics:
    """Describe one channel.

    Args:
        image: Any shape.
        label: Same shape and same memory layout.
        outside: Label values that are not foreground.
    """
    flat, flat_label = _flat(image), _flat(label)
    minimum, maximum = np.inf, -np.inf
    total = squares = 0.0
    kept: list[NDArray[Any]] = []
    foreground = flat_label.size - sum(int(np.count_nonzero(flat_label == value)) for value in outside)
    stride = max(1, -(-foreground // QUANTILE_SAMPLE))
    seen, low, high = 0, np.inf, -np.inf
    for start in range(0, flat.size, _CHUNK):
        values, inside = flat[start : start + _CHUNK], flat_label[start : start + _CHUNK]
        minimum, maximum = min(minimum, float(values.min())), max(maximum, float(values.max()))
        chosen = values[reduce(np.logical_and, [inside != value for value in outside])].astype(np.float64)
        if chosen.size:
            total += float(chosen.sum())
            squares += float(chosen @ chosen)
            low, high = min(low, float(chosen.min())), max(high, float(chosen.max()))
            kept.append(chosen[-seen % stride :: stride])
            seen += chosen.size
    if not seen:
        return ChannelStatistics(minimum=minimum, maximum=maximum, foreground=None)
    mean = total / seen
    quantiles = np.quantile(np.concatenate(kept), np.linspace(0, 1, QUANTILES))
    quantiles[0], quantiles[-1] = low, high
    rounded = tuple(float(f"{value:.6g}") for value in quantiles)
    std = float(np.sqrt(max(squares / seen - mean**2, 0.0)))
    return ChannelStatistics(
        minimum=minimum, maximum=maximum, foreground=Foreground(mean=mean, std=std, quantiles=rounded)
    )


def image_hash(channels: Sequence[NDArray[Any]]) -> str:
    """Hash the mean of arrays (*spatial) and every so many of their voxels: the stored type makes no difference.

    Equal hashes of two images that already look alike mean that they are the same.
    """
    digest = hashlib.sha256()
    for channel in channels:
        mean = sum(float(chunk.sum(dtype=np.float64)) for chunk in _chunks(channel)) / channel.size
        digest.update(f"{channel.shape} {mean:.6g}".encode())
        digest.update(np.ascontiguousarray(_thinned(channel), dtype=np.float32).data)
    return digest.hexdigest()


def signature(channel: NDArray[Any]) -> tuple[int, ...]:
    """Means of an array (*spatial) over 8 blocks along each axis, scaled to 0-255, in C order.

    Of a large array every so many voxels are looked at, some 64 along each axis.
    """
    thinned = _thinned(channel)
    blocks = thinned.astype(np.float32)
    for axis, size in enumerate(thinned.shape):
        edges = np.linspace(0, size, min(BLOCKS, size), endpoint=False).astype(int)
        sizes = np.diff(np.append(edges, size))
        blocks = np.add.reduceat(blocks, edges, axis=axis)
        blocks /= sizes.reshape([-1 if other == axis else 1 for other in range(channel.ndim)])
    low, high = float(blocks.min()), float(blocks.max())
    scaled = np.rint((blocks - low) * (255.0 / max(high - low, 1e-30)))
    return tuple(int(value) for value in scaled.ravel())


def _thinned(channel: NDArray[Any]) -> NDArray[Any]:
    """Every so many voxels, some 64 along each axis."""
    return channel[tuple(slice(None, None, max(1, n // (8 * BLOCKS))) for n in channel.shape)]


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """One axis in memory order: no copy for C and Fortran layouts."""
    return array.ravel(order="K")


def _chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    flat = _flat(array)
    for start in range(0, flat.size, _CHUNK):
        yield flat[start : start + _CHUNK]
