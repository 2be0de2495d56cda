"""One case: whether its files are there, can be read and hold the same voxels, and the statistics of what they hold."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.dataset.checks.intensities import ChannelStatistics, channel_statistics
from unetpipe.dataset.checks.statistics import CaseStatistics, content_hash, image_hash, label_counts, signature
from unetpipe.dataset.checks.voxels import in_layout_of
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.merging import merge_counts, merge_values
from unetpipe.dataset.privacy.source_names import SourceNames
from unetpipe.errors import Fault, GeometryError, ImageFileError, counted, listed
from unetpipe.imaging.alignment import about_frames, aligned, in_mm, way_on
from unetpipe.imaging.boxes import nonzero_box
from unetpipe.imaging.dicom.label_target import SegmentRules
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.files import has_image_suffix, is_dicom_source, read_volume
from unetpipe.imaging.finite import describe_non_finite
from unetpipe.imaging.formats.pictures import colour_hint
from unetpipe.imaging.geometry import Grid, orientation_to_ras
from unetpipe.imaging.labels import SEVERAL_CHANNELS, read_label_file, whole_numbers
from unetpipe.imaging.volume import Volume

PLAUSIBLE_SPACING_MM = (0.005, 50.0)
MAX_LABEL_VALUES = 1024
"""More distinct values than this, and the file is no label map."""
_ROUNDING = 1e-5
"""A channel whose values differ by less than this part of their size is constant but for rounding."""


@dataclass
class CaseCheck:
    """The check of one case.

    Attributes:
        case: The case to check.
        manifest: Manifest of its dataset.
        fix_affine: Whether the first image's affine may be adopted.
        faults: Faults found so far.
        statistics: Statistics of the case, set once everything could be measured.
    """

    case: Case
    manifest: Manifest
    fix_affine: bool
    faults: list[Fault] = field(default_factory=list)
    statistics: CaseStatistics | None = None

    @cached_property
    def _names(self) -> SourceNames:
        return SourceNames.of([self.case])

    @property
    def failed(self) -> bool:
        """Whether an error was found."""
        return any(fault.severity == "error" for fault in self.faults)

    def run(self, known: CaseStatistics | None) -> None:
        """Check the case.

        Args:
            known: Statistics of an earlier check; files whose content is still the same are not read again.
        """
        files = [*self.case.images, *([self.case.label] if self.case.label else [])]
        if self.case.label is None:
            self._fault("missing_label", "has no label")
        for file in files:
            if not file.exists():
                self._fault("missing_file", f"{file.name} does not exist")
        if self.faults:
            return
        try:
            content = content_hash(files, self.case.dicom) + self._segments_hash()
        except OSError as error:
            self._fault("unreadable", f"cannot be read: {error.strerror}")
            return
        if known is not None and self._still_holds(known, content):
            self.statistics = known
            if known.affine_adopted:
                message = "the label or a channel lies elsewhere; the first image's affine is adopted"
                self._warn("affine_adopted", message)
        else:
            images = [self._read(path, choice) for path, choice in self.case.sources]
            found = [volume for volume in images if volume is not None]
            label = self._read_label(files[-1], found[0].grid if found else None)
            if len(found) == len(images) and label is not None:
                self._measure(found, label, content)
        if self.statistics is not None:
            self._judge(self.statistics)

    def _segments_hash(self) -> str:
        """What segments in DICOM depend on beside their bytes: the values of the classes that are called like them."""
        if self.case.label is None or not is_dicom_source(self.case.label):
            return ""
        manifest = self.manifest
        values = repr(sorted((sorted(names), value) for names, value in manifest.values_of_segments.items()))
        if manifest.segment_rules != SegmentRules():  # work folders that are older than rules keep their hashes
            values += manifest.segment_rules.model_dump_json()
        return hashlib.sha256(values.encode()).hexdigest()[:8]

    def _still_holds(self, known: CaseStatistics, content: str) -> bool:
        return (
            known.content == content
            and known.affine_adopted in (False, self.fix_affine)
            and (known.merged, known.ignore_value) == (self.manifest.merged, self.manifest.ignore_value)
            and len(known.channels) == len(self.manifest.channels)
        )

    def _read(self, path: Path, choice: DicomOptions | None) -> Volume | None:
        return self._read_by(lambda: read_volume(path, choice), path, "image")

    def _read_label(self, path: Path, image: Grid | None) -> Volume | None:
        target = None if image is None else self.manifest.label_target(image)
        return self._read_by(lambda: read_label_file(path, target), path, "label")

    def _read_by(self, read: Callable[[], Volume], path: Path, what: str) -> Volume | None:
        try:
            return read()
        except GeometryError as error:
            self._fault("bad_geometry", f"{what} {error}")
        except ImageFileError as error:
            self._fault("unreadable", f"{what} {error}")
        except OSError as error:
            self._fault("unreadable", f"{what} {path.name}: {error.strerror}")
        return None

    def _measure(self, images: Sequence[Volume], label: Volume, content: str) -> None:
        """Compare the files of the case with each other, and take its statistics if they fit."""
        grid = images[0].grid
        files = zip(self.case.images[1:], images[1:], strict=True)
        further = [
            self._aligned(volume, grid, path.name if self.case.name is None else f"channel {number}")
            for number, (path, volume) in enumerate(files, start=1)
        ]
        on_grid = [images[0], *further]
        names = self.manifest.channels
        count = sum(len(volume.array) for volume in images)
        if count != len(names):
            message = f"has {counted(count, 'channel')}, expected {len(names)} ({', '.join(names)})"
            self._fault("channel_count", message + colour_hint(len(names), count, grid.ndim))
        if grid.ndim != self.manifest.spatial_dims:
            self._fault("dimensions", f"has {grid.ndim} axes, expected {self.manifest.spatial_dims}")
        if len(label.array) != 1:
            message = f"the label has {len(label.array)} channels, expected 1; {SEVERAL_CHANNELS}"
            self._fault("label_channels", message)
            return
        placed = self._aligned(label, grid, "the label")
        counts = self._label_counts(label.array[0])
        channels = [channel for volume in on_grid if volume is not None for channel in volume.array]
        if placed is None or counts is None or self.failed:
            for number, channel in enumerate(channels):
                self._refuse_non_finite(number, channel, len(channels))
            return
        described = self._describe(channels, merge_values(whole_numbers(placed.array[0]), self.manifest.merged))
        if self.failed:
            return
        start, stop = nonzero_box(channels)
        orientation, canonical = orientation_to_ras(grid), grid.canonical()
        self.statistics = CaseStatistics(
            id=self.case.id,
            content=content,
            shape=canonical.shape,
            spacing_mm=canonical.spacing_mm,
            unit=grid.unit,
            cropped_shape=tuple(stop[axis] - start[axis] for axis in orientation.axes),
            label_counts=merge_counts(counts, self.manifest.merged),
            channels=tuple(described),
            image_hash=image_hash([orientation.to_ras(channel) for channel in channels]),
            signature=signature(orientation.to_ras(channels[0])),
            affine_adopted=any(fault.kind == "affine_adopted" for fault in self.faults),
            modalities=tuple(volume.modality for volume in images for _ in volume.array),
            notes=self._notes([*images, label]),
            label_names=label.names,
            merged=self.manifest.merged,
            ignore_value=self.manifest.ignore_value,
        )

    def _aligned(self, volume: Volume, grid: Grid, what: str) -> Volume | None:
        """A channel or label in the axis order of the first image; None where it does not hold the same voxels."""
        try:
            return aligned(volume, grid)
        except GeometryError as error:
            if volume.grid.shape != grid.shape:
                self._fault("shape_mismatch", f"{what} has {error}{way_on(grid, volume.grid)}")
            elif not self.fix_affine:
                self._fault("affine_mismatch", f"{what} has {error}{way_on(grid, volume.grid)}")
            else:
                self._warn("affine_adopted", f"{what} has {error}; the first image's affine is adopted")
                return aligned(volume, grid, adopt_affine=True)
        return None

    def _label_counts(self, label: NDArray[Any]) -> dict[int, int] | None:
        if text := describe_non_finite(label):
            self._fault("non_finite", f"the label has values that are not finite: {text}")
            return None
        counts = label_counts(label)
        if counts is None:
            self._fault("non_integer_label", "the label has values that are not integers")
        elif len(counts) > MAX_LABEL_VALUES:
            self._fault("not_a_label", f"the label has {len(counts)} distinct values: is it an image?")
            return None
        return counts

    def _describe(self, channels: Sequence[NDArray[Any]], label: NDArray[np.integer]) -> list[ChannelStatistics]:
        """Statistics of each channel whose voxels are all finite."""
        ignored = self.manifest.ignore_value
        outside = [0] if ignored is None else [0, ignored]
        return [
            channel_statistics(channel, in_layout_of(label, channel), outside)
            for number, channel in enumerate(channels)
            if self._refuse_non_finite(number, channel, len(channels))
        ]

    def _refuse_non_finite(self, number: int, channel: NDArray[Any], channels: int) -> bool:
        """Whether a channel is finite; if not, say how many voxels are not."""
        text = describe_non_finite(channel)
        if text is not None:
            names = self.manifest.channels
            name = f"channel {number} ({names[number]})" if number < len(names) else f"channel {number}"
            self._fault("non_finite", f"{name if channels > 1 else 'the image'}: {text}")
        return text is None

    def _notes(self, volumes: Sequence[Volume]) -> tuple[str, ...]:
        assert self.case.label is not None
        files = [(path, "image") for path in self.case.images] + [(self.case.label, "label")]
        return tuple(
            self._names.hide(f"{what} {path.name if has_image_suffix(path.name) else '(DICOM)'}: {note}")
            for (path, what), volume in zip(files, volumes, strict=True)
            for note in (*volume.notes, *about_frames(volumes[0], volume))
        )

    def _judge(self, found: CaseStatistics) -> None:
        """Find faults that show in the statistics alone, be they new or remembered."""
        self._judge_labels(found.label_counts)
        for name, channel in zip(self.manifest.channels, found.channels, strict=False):
            low, high = channel.minimum, channel.maximum
            if low == high:
                self._fault("constant_image", f"channel {name} has the value {low:g} everywhere")
            elif high - low <= _ROUNDING * max(abs(low), abs(high)):
                self._fault("constant_image", f"channel {name} is constant but for rounding: {low:.9g} to {high:.9g}")
        least, most = PLAUSIBLE_SPACING_MM
        least = 0.0 if found.unit in ("um", "nm") else least  # microscopy, which says so
        if not all(least <= spacing <= most for spacing in found.spacing_mm):
            self._warn("implausible_spacing", f"spacing {in_mm(found.spacing_mm)} is implausible for a medical image")
        for note in found.notes:
            self._warn("reading", note)

    def _judge_labels(self, counts: Mapping[int, int]) -> None:
        labels, ignored = self.manifest.labels, self.manifest.ignore_value
        unknown = sorted(set(counts) - {label.value for label in labels} - {ignored})
        if labels and unknown:
            voxels = sum(counts[value] for value in unknown)
            allowed = ", ".join(f"{label.value} {label.name}" for label in labels)
            missing = [label for label in labels[1:] if label.value not in counts]
            hint = "; --labels NAME=VALUES declares or merges values"
            if len(unknown) == 1 and len(labels) == 2 and missing:
                name, value = labels[1].name, labels[1].value
                hint = f"; if {unknown[0]} is {name} here, --labels {name}={value},{unknown[0]} says so"
            self._fault(
                "unknown_label",
                f"label has unknown values {listed(unknown, 10)} ({counted(voxels, 'voxel')}); "
                f"expected {allowed}{hint}",
            )
        if not set(counts) - {0, ignored}:
            self._warn("empty_label", "the label is empty: background only")

    def _fault(self, kind: str, message: str) -> None:
        self.faults.append(Fault(case=self.case.id, kind=kind, message=self._names.hide(message)))

    def _warn(self, kind: str, message: str) -> None:
        self.faults.append(Fault.warning(kind, self._names.hide(message), self.case.id))
