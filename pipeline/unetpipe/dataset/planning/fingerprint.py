"""Geometry and intensities of a dataset, in the numbers that planning needs: `fingerprint.json`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from unetpipe.dataset.checks.intensities import ChannelStatistics
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.documents import Record, read_document
from unetpipe.imaging.geometry import Shape, Spacing

FINGERPRINT_SCHEMA: Final = 1


class CaseFingerprint(Record):
    """One case, in RAS+ axis order.

    Attributes:
        shape: Voxels of the stored image along each axis.
        cropped_shape: Shape of the box around voxels that are not 0 in some channel.
        spacing_mm: Voxel size of the stored image.
        class_voxels: Voxels of each label value that occurs in the stored label map, but for the ignored one.
    """

    id: str
    shape: Shape
    cropped_shape: Shape
    spacing_mm: Spacing
    class_voxels: Mapping[int, int]


class ChannelFingerprint(Record):
    """Intensities of one channel in the foreground, where every case has the same weight."""

    mean: float
    std: float
    minimum: float
    percentile_00_5: float
    median: float
    percentile_99_5: float
    maximum: float


class ImageFingerprint(Record):
    """Intensities of one channel in whole images, where every case has the same weight.

    Attributes:
        mean, std: Mean and standard deviation of all voxels.
        clipped_mean, clipped_std: The same after clipping each image to its own 0.5th and 99.5th percentile.
        minimum, maximum: Over all cases.
        percentile_00_5: The least of the cases' 0.5th percentiles.
        percentile_99_5: The greatest of the cases' 99.5th percentiles.
        binary: Whether in some case all voxels that are not 0 have one value.
    """

    mean: float
    std: float
    clipped_mean: float
    clipped_std: float
    minimum: float
    percentile_00_5: float
    percentile_99_5: float
    maximum: float
    binary: bool


class Fingerprint(Record):
    """A dataset's geometry and intensities.

    Attributes:
        cropped_fraction: Median over cases of the share of the volume that the crop to nonzero leaves.
        channels: Intensities of each channel in the foreground; None where no case has any foreground.
        images: Intensities of each channel in whole images; empty in fingerprints of earlier versions.
        cases: Geometry of each case, sorted by id.
    """

    schema_version: Literal[1] = FINGERPRINT_SCHEMA
    cropped_fraction: float
    channels: tuple[ChannelFingerprint | None, ...]
    images: tuple[ImageFingerprint, ...] = ()
    cases: tuple[CaseFingerprint, ...]


def make_fingerprint(statistics: Sequence[CaseStatistics]) -> Fingerprint:
    """Pool the statistics of all cases.

    Every case has the same weight, as in nnU-Net, which draws equally many voxels of each. Here no random numbers are
    drawn: mean and standard deviation are exact, and percentiles come from the quantiles of each case.
    """
    cases = tuple(
        CaseFingerprint(
            id=one.id,
            shape=one.shape,
            cropped_shape=one.cropped_shape,
            spacing_mm=one.spacing_mm,
            class_voxels={value: n for value, n in one.label_counts.items() if value != one.ignore_value},
        )
        for one in sorted(statistics, key=lambda one: one.id)
    )
    fractions = [np.prod(case.cropped_shape) / np.prod(case.shape) for case in cases]
    channels = len(statistics[0].channels)
    return Fingerprint(
        cropped_fraction=float(np.median(fractions)),
        channels=tuple(_pool_foreground(statistics, channel) for channel in range(channels)),
        images=tuple(_pool_images([one.channels[channel] for one in statistics]) for channel in range(channels)),
        cases=cases,
    )


def _pool_images(found: Sequence[ChannelStatistics]) -> ImageFingerprint:
    images = [one.image for one in found]
    mean, std = _pooled_moments([(one.mean, one.std) for one in images])
    clipped_mean, clipped_std = _pooled_moments([(one.clipped_mean, one.clipped_std) for one in images])
    return ImageFingerprint(
        mean=mean,
        std=std,
        clipped_mean=clipped_mean,
        clipped_std=clipped_std,
        minimum=min(one.minimum for one in found),
        percentile_00_5=min(one.percentile_00_5 for one in images),
        percentile_99_5=max(one.percentile_99_5 for one in images),
        maximum=max(one.maximum for one in found),
        binary=any(one.binary for one in found),
    )


def _pooled_moments(moments: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean and standard deviation of all cases together, each weighing the same, from those of each."""
    mean = float(np.mean([mean for mean, _ in moments]))
    second_moment = float(np.mean([std**2 + mean**2 for mean, std in moments]))
    return mean, float(np.sqrt(max(second_moment - mean**2, 0.0)))


def _pool_foreground(statistics: Sequence[CaseStatistics], channel: int) -> ChannelFingerprint | None:
    foreground = [one.channels[channel].foreground for one in statistics]
    present = [one for one in foreground if one is not None]
    if not present:
        return None
    mean, std = _pooled_moments([(one.mean, one.std) for one in present])
    quantiles = np.concatenate([one.quantiles for one in present])
    low, median, high = np.percentile(quantiles, [0.5, 50, 99.5])
    return ChannelFingerprint(
        mean=mean,
        std=std,
        minimum=min(one.quantiles[0] for one in present),
        percentile_00_5=float(low),
        median=float(median),
        percentile_99_5=float(high),
        maximum=max(one.quantiles[-1] for one in present),
    )


def read_fingerprint(work: Path) -> Fingerprint:
    """Read WORK/fingerprint.json.

    Raises:
        PlanError: If it is missing or malformed.
    """
    return read_document(work / "fingerprint.json", Fingerprint)
