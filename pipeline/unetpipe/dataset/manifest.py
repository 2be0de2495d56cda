"""Which cases exist, which channels and labels they have: `manifest.json`.

Reading the different layouts that datasets come in happens in `dataset/layouts.py`; this is what they all become.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from unetpipe.dataset.case_names import file_names
from unetpipe.dataset.label_scheme import LabelClass, LabelScheme, Region
from unetpipe.documents import Record, read_document, write_document

MANIFEST_SCHEMA: Final = 1


class Case(Record):
    """One scan.

    Attributes:
        id: Unique in the dataset; any text. Its files are named by `Manifest.file_names`.
        images: One file per channel, or one file holding all channels, or one DICOM series folder.
        label: None where there is none.
        patient: Groups cases that must not be split between training and validation; None when not known.
        fold: Number of the fold that holds the case out, where the dataset declares folds.
        affine_adopted: Whether the label or a channel lies elsewhere than the first image by its own header, and counts
            as lying where the image does (``--fix-affine``). None before the case is checked, and in older
            manifests.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None = None
    patient: str | None = None
    fold: int | None = None
    affine_adopted: bool | None = None


class Manifest(Record):
    """A dataset.

    Attributes:
        channels: Name of each channel, such as ``T1`` or ``CT``.
        modalities: DICOM modality of each channel, such as ``CT`` or ``MR``, None where it is not known. Empty where
            none is known, and in older manifests.
        labels: Classes in network order; index 0 is the background. Empty while not yet known.
        regions: Overlapping sets of label values to be found instead of classes; later ones are written over earlier.
        ignore_value: Label value that takes no part in training, if any.
        spatial_dims: 2 or 3.
        cases: Sorted by id.
    """

    schema_version: Literal[1] = MANIFEST_SCHEMA
    name: str
    channels: tuple[str, ...]
    modalities: tuple[str | None, ...] = ()
    labels: tuple[LabelClass, ...]
    regions: tuple[Region, ...] = ()
    ignore_value: int | None = None
    spatial_dims: Literal[2, 3]
    cases: tuple[Case, ...]

    @property
    def label_scheme(self) -> LabelScheme:
        """What a network has to find."""
        return LabelScheme(self.labels, self.regions)

    @cached_property
    def file_names(self) -> Mapping[str, str]:
        """What the files of each case are called, without suffix, by case id."""
        return file_names(case.id for case in self.cases)

    @property
    def label_values(self) -> tuple[int, ...]:
        """Value in label files of each class, in network order."""
        return tuple(label.value for label in self.labels)


def read_manifest(work: Path) -> Manifest:
    """Read WORK/manifest.json.

    Raises:
        PlanError: If it is missing or malformed.
    """
    return read_document(work / "manifest.json", Manifest)


def write_manifest(work: Path, manifest: Manifest) -> None:
    """Write WORK/manifest.json."""
    write_document(work / "manifest.json", manifest)
