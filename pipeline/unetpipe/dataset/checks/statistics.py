"""The statistics of a case: enough for the fingerprint and for comparing cases, small enough to keep."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, Field

from unetpipe.dataset.checks.intensities import ChannelStatistics
from unetpipe.dataset.checks.voxels import flat, thinned
from unetpipe.dataset.merging import MergedValues
from unetpipe.documents import Record, read_document
from unetpipe.errors import ImageFileError, PlanError
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.sources import list_files
from unetpipe.imaging.files import code_digest, files_of, has_image_suffix
from unetpipe.imaging.geometry import Shape, Spacing, Unit
from unetpipe.imaging.labels import whole_numbers

STATISTICS_SCHEMA = 5
"""Version of the statistics: raise it when the same file leads to other statistics."""
_READ_ANEW = b"3"
"""Version of how DICOM, PNG and TIFF are read: raise it when the same bytes become other voxels."""
BLOCKS = 8
"""Blocks of the signature along each axis."""
_CHUNK = 1 << 22
"""Voxels that are counted at a time: they fit the caches, and bound the memory that counting takes."""


class CaseStatistics(Record):
    """One case, in RAS+ axis order.

    Attributes:
        content: Hash of the files' bytes.
        shape: Voxels of the image along each axis.
        spacing_mm: Voxel size of the image.
        unit: Unit in which its file states lengths.
        cropped_shape: Shape of the box around voxels that are not 0 in some channel.
        label_counts: Voxels of each label value that occurs.
        channels: Intensities of each channel.
        image_hash: Hash of the image's mean and of a sample of its voxels, which does not depend on the file format.
        signature: Means of the first channel over 8 blocks along each axis, scaled to 0-255.
        affine_adopted: The label or a channel lies elsewhere than the first image by its own header, and counts as
            lying where the image does.
        modalities: DICOM modality of each channel, where its file names one.
        notes: Decisions and omissions of reading the files, for a person to check.
        label_names: Names of label values, where the label file has them.
        merged, ignore_value: Which label values count as which, and for none: the counts and the foreground follow
            from it.
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
    unit: Unit = "mm"
    modalities: tuple[str | None, ...] = ()
    notes: tuple[str, ...] = ()
    label_names: Mapping[int, str] = {}
    merged: tuple[MergedValues, ...] = ()
    ignore_value: int | None = None


class KnownStatistics(Record):
    """`checks.json`: what the last check found out about each case, so that unchanged files are not read again."""

    schema_version: int = STATISTICS_SCHEMA
    statistics: tuple[CaseStatistics, ...] = Field(validation_alias=AliasChoices("statistics", "facts"))


def read_known_statistics(work: Path) -> dict[str, CaseStatistics]:
    """Statistics of an earlier check by case id; none if there was no check or another version made it."""
    try:
        known = read_document(work / "checks.json", KnownStatistics)
    except PlanError:
        return {}
    return {one.id: one for one in known.statistics} if known.schema_version == STATISTICS_SCHEMA else {}


def content_hash(paths: Sequence[Path], dicom: Sequence[DicomOptions] = ()) -> str:
    """Hash the bytes of files and folders, an extension's code that reads them, and choices of DICOM volumes.

    Of a folder its files and those of its subfolders, by name; of a header the files that hold its voxels, too. DICOM,
    PNG and TIFF have another hash since the same bytes were last read as other voxels.
    """
    digest = hashlib.sha256()
    for path in paths:
        if path.suffix.lower() in (".png", ".tif", ".tiff") or not has_image_suffix(path.name):
            digest.update(_READ_ANEW)
        for member in _members(path) if path.is_dir() else files_of(path):
            with member.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        digest.update(code_digest(path).encode())
    for choice in dicom:
        digest.update(choice.model_dump_json().encode())
    return digest.hexdigest()


def _members(folder: Path) -> list[Path]:
    """The files of a folder, which is DICOM: those that are read, through links to folders and without hidden ones."""
    return [Path(file.path) for file in list_files(folder) if not file.absent]


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
            found = _count_bytes(chunk) if chunk.dtype == np.uint8 else np.bincount(chunk.astype(np.intp, copy=False))
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


def image_hash(channels: Sequence[NDArray[Any]]) -> str:
    """Hash the mean of arrays (*spatial) and every so many of their voxels: the stored type makes no difference.

    Equal hashes of two images whose statistics already agree mean that they are the same.
    """
    digest = hashlib.sha256()
    for channel in channels:
        mean = sum(float(chunk.sum(dtype=np.float64)) for chunk in _chunks(channel)) / channel.size
        digest.update(f"{channel.shape} {mean:.6g}".encode())
        digest.update(np.ascontiguousarray(thinned(channel), dtype=np.float32).data)
    return digest.hexdigest()


def signature(channel: NDArray[Any]) -> tuple[int, ...]:
    """Means of an array (*spatial) over 8 blocks along each axis, scaled to 0-255, in C order.

    A large array is sampled at about 64 voxels along each axis.
    """
    sample = thinned(channel)
    blocks = sample.astype(np.float32)
    for axis, size in enumerate(sample.shape):
        edges = np.linspace(0, size, min(BLOCKS, size), endpoint=False).astype(int)
        sizes = np.diff(np.append(edges, size))
        blocks = np.add.reduceat(blocks, edges, axis=axis)
        blocks /= sizes.reshape([-1 if other == axis else 1 for other in range(channel.ndim)])
    low, high = float(blocks.min()), float(blocks.max())
    scaled = np.rint((blocks - low) * (255.0 / max(high - low, 1e-30)))
    return tuple(scaled.astype(int).ravel().tolist())


def _chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    values = flat(array)
    for start in range(0, values.size, _CHUNK):
        yield values[start : start + _CHUNK]
