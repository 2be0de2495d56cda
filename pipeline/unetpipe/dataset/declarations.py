"""Declarations about a dataset on the command line, which override those of its folder or list."""

from collections.abc import Mapping, Sequence

from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.merging import declare_labels
from unetpipe.dataset.modality import modality_code
from unetpipe.errors import DatasetError, Fault
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
    declared = declare_labels(labels)
    ignore_value = manifest.ignore_value if declared.ignore_value is None else declared.ignore_value
    return manifest.model_copy(
        update={
            "labels": declared.classes,
            "regions": (),
            "merged": declared.merged,
            "ignore_value": ignore_value,
        }
    )


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
        raise _refused(f"{unknown[0]!r} is no modality; expected DICOM's code, such as CT, MR, PT or US")
    channels = len(manifest.channels)
    if len(codes) not in (1, channels):
        names = ", ".join(manifest.channels)
        raise _refused(f"expected one modality, or one for each of the {channels} channels ({names}), got {len(codes)}")
    return manifest.model_copy(update={"modalities": tuple(codes if len(codes) == channels else codes * channels)})


def _refused(message: str) -> DatasetError:
    return DatasetError([Fault(case="dataset", kind="bad_modality", message=f"--modality: {message}")])
