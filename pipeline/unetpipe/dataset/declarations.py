"""Declarations about a dataset on the command line, which override those of its folder or list."""

from collections.abc import Collection, Mapping, Sequence

from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.merging import declare_labels
from unetpipe.dataset.modality import modality_code
from unetpipe.errors import DatasetError, counted
from unetpipe.imaging.dicom.label_target import SegmentRules
from unetpipe.label_values import Range


def with_labels(manifest: Manifest, labels: Mapping[str, Sequence[Range]]) -> Manifest:
    """The manifest with these classes instead of its own; as it is where none are given.

    Args:
        manifest: Manifest as the dataset's layout declares it.
        labels: Values of each class by name, as `declare_labels` takes them.

    Raises:
        DatasetError: As `declare_labels`.
    """
    if not labels:
        return manifest
    declared = declare_labels(labels).over(manifest.ignore_value)
    return manifest.model_copy(
        update={
            "labels": declared.classes,
            "regions": (),
            "merged": declared.merged,
            "ignore_value": declared.ignore_value,
        }
    )


def with_segments(manifest: Manifest, names: Mapping[str, tuple[str, ...]], threshold: float | None) -> Manifest:
    """The manifest with these rules for segments of DICOM instead of its own, where they are given.

    Args:
        manifest: Manifest as the dataset's layout declares it, with its final classes.
        names: Names of the segments of a class, by the class.
        threshold: Share of the highest fraction from which a voxel belongs to a fractional segment.

    Raises:
        DatasetError: If names, given or the dataset's own, are for what is no class or region.
    """
    own, known = manifest.segment_rules, manifest.label_scheme.names if manifest.labels else ()
    rules = segment_rules(own, names or own.names, threshold, known)  # a dataset may misspell a class as well
    return manifest.model_copy(update={"segment_rules": rules})


def segment_rules(
    own: SegmentRules, names: Mapping[str, tuple[str, ...]], threshold: float | None, classes: Collection[str]
) -> SegmentRules:
    """Rules for segments of DICOM, and over them those that are given.

    Args:
        own: Rules of the dataset. Their names are not checked: one that is no class has no effect.
        names: Names of the segments of a class, by the class; none leave the dataset's.
        threshold: Share of the highest fraction from which a voxel belongs to a fractional segment; None leaves the
            dataset's.
        classes: Names of all classes or regions.

    Raises:
        DatasetError: If names are given for what is no class or region.
    """
    if unknown := sorted(set(names) - set(classes)):
        expected = ", ".join(classes) or "none"
        raise DatasetError.of("bad_segments", f"names of segments: {unknown[0]} is no class; expected {expected}")
    given = {"names": names or None, "threshold": threshold}
    return own.model_copy(update={key: value for key, value in given.items() if value is not None})


def with_modalities(manifest: Manifest, modalities: Sequence[str]) -> Manifest:
    """The manifest with these modalities instead of its own; as it is where none are given.

    Args:
        manifest: Manifest as the dataset's layout declares it.
        modalities: One for all channels, or one per channel, by DICOM's code or usual name.

    Raises:
        DatasetError: If a modality is not known, or there are neither one nor as many as channels.
    """
    if not modalities:
        return manifest
    codes = [modality_code(name) for name in modalities]
    if unknown := [name for name, code in zip(modalities, codes, strict=True) if code is None]:
        raise DatasetError.of(
            "bad_modality",
            f"--modality: {unknown[0]!r} is no modality; expected DICOM's code, such as CT, MR, PT or US",
        )
    channels = len(manifest.channels)
    if len(codes) not in (1, channels):
        names = ", ".join(manifest.channels)
        expected = f"expected one modality, or one for each of the {counted(channels, 'channel')} ({names})"
        raise DatasetError.of("bad_modality", f"--modality: {expected}, got {len(codes)}")
    return manifest.model_copy(update={"modalities": tuple(codes if len(codes) == channels else codes * channels)})
