"""What a dataset looks like, in the numbers that planning needs: `fingerprint.json`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.documents import Record, read_document, write_document
from unetpipe.imaging.geometry import Shape, Spacing

FINGERPRINT_SCHEMA: Final = 1


class CaseFingerprint(Record):
    """One case, in RAS+ axis order.

    Attributes:
        shape: Of the image as stored.
        cropped_shape: Of the box around voxels that are not 0 in some channel.
        spacing_mm: As stored.
        class_voxels: Voxels of each label value that occurs, as stored.
    """

    id: str
    shape: Shape
    cropped_shape: Shape
    spacing_mm: Spacing
    class_voxels: Mapping[int, int]


class ChannelFingerprint(Record):
    """Intensities of one channel inside the foreground, each case weighing the same."""

    mean: float
    std: float
    minimum: float
    percentile_00_5: float
    median: float
    percentile_99_5: float
    maximum: float


class Fingerprint(Record):
    """A dataset's geometry and intensities.

    Attributes:
        cropped_fraction: Median over cases of the volume left by the crop to nonzero.
        channels: None for a channel without any foreground voxel.
    """

    schema_version: Literal[1] = FINGERPRINT_SCHEMA
    cropped_fraction: float
    channels: tuple[ChannelFingerprint | None, ...]
    cases: tuple[CaseFingerprint, ...]


def make_fingerprint(statistics: Sequence[CaseStatistics]) -> Fingerprint:
    """Pool the statistics of all cases.

    Every case weighs the same in the intensities, as nnU-Net's sampling of equally many voxels per case has it, but
    mean and std are exact and percentiles come from each case's quantiles: no draw of random numbers is involved.
    """
    cases = tuple(
        CaseFingerprint(
            id=one.id,
            shape=one.shape,
            cropped_shape=one.cropped_shape,
            spacing_mm=one.spacing_mm,
            class_voxels=one.label_counts,
        )
        for one in sorted(statistics, key=lambda one: one.id)
    )
    fractions = [np.prod(case.cropped_shape) / np.prod(case.shape) for case in cases]
    channels = len(statistics[0].channels)
    return Fingerprint(
        cropped_fraction=float(np.median(fractions)),
        channels=tuple(_pool_channel(statistics, channel) for channel in range(channels)),
        cases=cases,
    )


def _pool_channel(statistics: Sequence[CaseStatistics], channel: int) -> ChannelFingerprint | None:
    foreground = [one.channels[channel].foreground for one in statistics]
    present = [one for one in foreground if one is not None]
    if not present:
        return None
    mean = float(np.mean([one.mean for one in present]))
    second_moment = float(np.mean([one.std**2 + one.mean**2 for one in present]))
    quantiles = np.concatenate([one.quantiles for one in present])
    low, median, high = np.percentile(quantiles, [0.5, 50, 99.5])
    return ChannelFingerprint(
        mean=mean,
        std=float(np.sqrt(max(second_moment - mean**2, 0.0))),
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


def write_fingerprint(work: Path, fingerprint: Fingerprint) -> None:
    """Write WORK/fingerprint.json."""
    write_document(work / "fingerprint.json", fingerprint)
