"""Look at every case once: what is wrong with it, and the statistics that planning needs.

Threads read, since decompression and numpy release the GIL. Nothing is written, and nothing stops at the first fault.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.dataset.checks.across_cases import compare_cases
from unetpipe.dataset.checks.statistics import (
    CaseStatistics,
    channel_statistics,
    content_hash,
    image_hash,
    label_counts,
    signature,
)
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.errors import Fault, GeometryError, ImageFileError
from unetpipe.imaging.alignment import adoption_hint, aligned, in_mm
from unetpipe.imaging.boxes import nonzero_box
from unetpipe.imaging.files import read_volume
from unetpipe.imaging.geometry import Grid, orientation_to_ras
from unetpipe.imaging.volume import Volume
from unetpipe.progress import Progress

PLAUSIBLE_SPACING_MM = (0.005, 50.0)
MAX_LABEL_VALUES = 1024
"""More distinct values than this, and the file is no label map."""


@dataclass(frozen=True)
class CheckReport:
    """What is wrong, and what is known.

    Attributes:
        faults: Sorted by case.
        statistics: Of the cases without errors, sorted by id.
    """

    faults: tuple[Fault, ...]
    statistics: tuple[CaseStatistics, ...]

    @property
    def errors(self) -> tuple[Fault, ...]:
        """The faults that stop the work."""
        return tuple(fault for fault in self.faults if fault.severity == "error")


def check_cases(
    manifest: Manifest,
    *,
    workers: int,
    fix_affine: bool,
    progress: Progress,
    known: Mapping[str, CaseStatistics] | None = None,
    hold: Callable[[Case], Any] | None = None,
) -> CheckReport:
    """Check all cases.

    Args:
        manifest: Where it has no labels yet, any label value is accepted.
        workers: Threads.
        fix_affine: Let labels and channels take the first image's affine where theirs differs; a warning says so.
        progress: Advanced once per case.
        known: Facts of an earlier check by id; a case whose files' content is still the same is not read again.
        hold: Gives a context that a case is looked at in: how a caller bounds memory.
    """
    faults: list[Fault] = []
    statistics: list[CaseStatistics] = []
    known = known or {}

    def check(case: Case) -> "_Look":
        try:
            if hold is None:
                return _look(case, manifest, fix_affine, known.get(case.id))
            with hold(case):
                return _look(case, manifest, fix_affine, known.get(case.id))
        finally:
            advance(note=case.id)

    with progress.task("checking", len(manifest.cases)) as advance, ThreadPoolExecutor(workers) as threads:
        try:
            for look in threads.map(check, manifest.cases):
                faults += look.faults
                if look.statistics is not None and not any(fault.severity == "error" for fault in look.faults):
                    statistics.append(look.statistics)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    faults += compare_cases(manifest, statistics)
    return CheckReport(
        faults=tuple(sorted(faults, key=lambda fault: (fault.case != "dataset", fault.case, fault.kind))),
        statistics=tuple(sorted(statistics, key=lambda one: one.id)),
    )


def discover_labels(statistics: Sequence[CaseStatistics]) -> tuple[LabelClass, ...]:
    """Classes of a dataset that declares none: every value that occurs, 0 being the background."""
    values = sorted({value for one in statistics for value in one.label_counts} - {0})
    return (
        LabelClass(name="background", value=0),
        *(LabelClass(name=f"label_{value}", value=value) for value in values),
    )


@dataclass
class _Look:
    """One case under examination."""

    case: Case
    manifest: Manifest
    faults: list[Fault] = field(default_factory=list)
    statistics: CaseStatistics | None = None
    adopted: bool = False

    def fault(self, kind: str, message: str) -> None:
        self.faults.append(Fault(case=self.case.id, kind=kind, message=message))

    def warn(self, kind: str, message: str) -> None:
        self.faults.append(Fault(case=self.case.id, kind=kind, message=message, severity="warning"))


def _look(case: Case, manifest: Manifest, fix_affine: bool, known: CaseStatistics | None) -> _Look:
    look = _Look(case, manifest)
    files = [*case.images, *([case.label] if case.label else [])]
    if case.label is None:
        look.fault("missing_label", "has no label")
    for file in files:
        if not file.exists():
            look.fault("missing_file", f"{file.name} does not exist")
    if look.faults:
        return look
    try:
        content = content_hash(files)
    except OSError as error:
        look.fault("unreadable", f"cannot be read: {error.strerror}")
        return look
    if known is not None and known.content == content and known.affine_adopted in (False, fix_affine):
        look.statistics = known
        if known.affine_adopted:
            look.warn("affine_adopted", "the label or a channel lies elsewhere; the first image's affine is adopted")
    else:
        images = [volume for path in case.images if (volume := _read(path, look)) is not None]
        label = _read(case.label, look, as_label=True) if case.label else None
        if len(images) == len(case.images) and label is not None:
            _examine(images, label, content, fix_affine, look)
    if look.statistics is not None:
        _judge(look.statistics, look)
    return look


def _read(path: Path, look: _Look, *, as_label: bool = False) -> Volume | None:
    try:
        volume = read_volume(path, as_label=as_label)
    except GeometryError as error:
        look.fault("bad_geometry", str(error))
    except ImageFileError as error:
        look.fault("unreadable", str(error))
    except OSError as error:
        look.fault("unreadable", f"{path.name}: {error.strerror}")
    else:
        for note in volume.notes:
            look.warn("reading", f"{path.name}: {note}")
        return volume
    return None


def _examine(images: list[Volume], label: Volume, content: str, fix_affine: bool, look: _Look) -> None:
    """Compare the files of a case with each other and take its statistics."""
    grid = images[0].grid
    names = [path.name for path in look.case.images]
    channels_on_grid = [
        images[0],
        *(_align(volume, grid, name, fix_affine, look) for name, volume in zip(names[1:], images[1:], strict=True)),
    ]
    count = sum(len(volume.array) for volume in images)
    if count != len(look.manifest.channels):
        expected = f"{len(look.manifest.channels)} ({', '.join(look.manifest.channels)})"
        look.fault("channel_count", f"has {count} channels, expected {expected}")
    if grid.ndim != look.manifest.spatial_dims:
        look.fault("dimensions", f"has {grid.ndim} axes, expected {look.manifest.spatial_dims}")
    if len(label.array) != 1:
        look.fault("label_channels", f"the label has {len(label.array)} channels, expected 1")
        return
    placed = _align(label, grid, "the label", fix_affine, look)
    counts = _count_labels(label.array[0], look)
    fitting = [volume for volume in channels_on_grid if volume is not None]
    if placed is None or counts is None or any(fault.severity == "error" for fault in look.faults):
        for volume in images:
            _finite(volume.array, look)
        return

    channels = [channel for volume in fitting for channel in volume.array]
    outside = [0] if look.manifest.ignore_value is None else [0, look.manifest.ignore_value]
    described = []
    for number, channel in enumerate(channels):
        if _finite(channel, look, number if len(channels) > 1 else None):
            described.append(channel_statistics(channel, _same_layout(placed.array[0], channel), outside))
    if len(described) < len(channels):
        return
    start, stop = nonzero_box(channels)
    orientation, canonical = orientation_to_ras(grid), grid.canonical()
    look.statistics = CaseStatistics(
        id=look.case.id,
        content=content,
        shape=canonical.shape,
        spacing_mm=canonical.spacing_mm,
        cropped_shape=tuple(stop[axis] - start[axis] for axis in orientation.axes),
        label_counts=counts,
        channels=tuple(described),
        image_hash=image_hash([orientation.to_ras(channel) for channel in channels]),
        signature=signature(orientation.to_ras(channels[0])),
        affine_adopted=look.adopted,
    )


def _align(volume: Volume, grid: Grid, what: str, fix_affine: bool, look: _Look) -> Volume | None:
    """A channel or label in the axis order of the first image; None where it does not hold the same voxels."""
    try:
        return aligned(volume, grid)
    except GeometryError as error:
        if volume.grid.shape != grid.shape:
            look.fault("shape_mismatch", f"{what} has {error}")
        elif not fix_affine:
            look.fault("affine_mismatch", f"{what} has {error}{adoption_hint(grid, volume.grid)}")
        else:
            look.adopted = True
            look.warn("affine_adopted", f"{what} has {error}; the first image's affine is adopted")
            return aligned(volume, grid, adopt_affine=True)
    return None


def _count_labels(label: NDArray[Any], look: _Look) -> dict[int, int] | None:
    if not _finite_values(label):
        look.fault("non_finite", "the label has values that are not finite")
        return None
    counts = label_counts(label)
    if counts is None:
        look.fault("non_integer_label", "the label has values that are not integers")
    elif len(counts) > MAX_LABEL_VALUES:
        look.fault("not_a_label", f"the label has {len(counts)} distinct values: is it an image?")
        return None
    return counts


def _finite(channel: NDArray[Any], look: _Look, number: int | None = None) -> bool:
    if _finite_values(channel):
        return True
    where = "the image" if number is None else f"channel {number} ({look.manifest.channels[number]})"
    bad = int(np.size(channel) - np.count_nonzero(np.isfinite(channel)))
    look.fault("non_finite", f"{where} has {bad} voxels that are NaN or infinite")
    return False


def _finite_values(array: NDArray[Any]) -> bool:
    if np.issubdtype(array.dtype, np.integer):
        return True
    return bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def _same_layout(label: NDArray[Any], channel: NDArray[Any]) -> NDArray[Any]:
    """The label in the memory order of the channel, so that both can be walked through side by side."""
    if label.strides == tuple(stride // channel.itemsize * label.itemsize for stride in channel.strides):
        return label
    copy = np.empty_like(channel, dtype=label.dtype)
    copy[...] = label
    return copy


def _judge(statistics: CaseStatistics, look: _Look) -> None:
    """What can be said from the statistics alone, remembered or new."""
    expected = {label.value for label in look.manifest.labels} | {look.manifest.ignore_value}
    unknown = sorted(set(statistics.label_counts) - expected)
    if look.manifest.labels and unknown:
        shown = ", ".join(str(value) for value in unknown[:10]) + (", ..." if len(unknown) > 10 else "")
        count = sum(statistics.label_counts[value] for value in unknown)
        allowed = ", ".join(f"{label.value} {label.name}" for label in look.manifest.labels)
        look.fault("unknown_label", f"label has unknown values {shown} ({count} voxels); expected {allowed}")
    if not set(statistics.label_counts) - {0, look.manifest.ignore_value}:
        look.warn("empty_label", "the label is empty: background only")
    for name, channel in zip(look.manifest.channels, statistics.channels, strict=False):
        if channel.minimum == channel.maximum:
            look.fault("constant_image", f"channel {name} has the value {channel.minimum:g} everywhere")
    low, high = PLAUSIBLE_SPACING_MM
    if not all(low <= spacing <= high for spacing in statistics.spacing_mm):
        look.warn("implausible_spacing", f"spacing {in_mm(statistics.spacing_mm)} is implausible for a medical image")


def completed(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> Manifest:
    """The manifest with what only the files say: its classes where none are declared, whose affines were adopted."""
    adopted = {one.id: one.affine_adopted for one in statistics}
    return manifest.model_copy(
        update={
            "labels": manifest.labels or discover_labels(statistics),
            "cases": tuple(case.model_copy(update={"affine_adopted": adopted.get(case.id)}) for case in manifest.cases),
        }
    )
