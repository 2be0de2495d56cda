"""The cases of a dataset with their channels and classes: `manifest.json`.

Datasets of every layout (`dataset.layouts`) become a manifest, and all further stages read nothing else about them.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from unetpipe.dataset.case_names import file_names
from unetpipe.dataset.label_scheme import LabelClass, LabelScheme, Region, values_of_segments
from unetpipe.dataset.merging import MergedValues
from unetpipe.documents import Record, read_document
from unetpipe.imaging.dicom.options import DicomOptions

MANIFEST_SCHEMA: Final = 1


class Case(Record):
    """One scan with its label.

    Attributes:
        id: Name of the case; unique in the dataset, and any text. `Manifest.file_names` names its files.
        images: Absolute paths: one file per channel, or one file or DICOM source that holds all channels.
        dicom: Choice of the volume in each image's DICOM source, and its permitted repairs: one per image, or none
            where nothing was chosen.
        label: Absolute path of the label file; None where there is none.
        patient: Cases of one patient must not be split between training and validation; None where it is not known.
        fold: Number of the fold that holds the case out, where the dataset declares folds.
        affine_adopted: Whether the label or a channel lies elsewhere than the first image by its own header, and counts
            as lying where the image does (``--fix-affine``). None before the case is checked, and in older
            manifests.
    """

    id: str
    images: tuple[Path, ...]
    dicom: tuple[DicomOptions, ...] = ()
    label: Path | None = None
    patient: str | None = None
    fold: int | None = None
    affine_adopted: bool | None = None

    @property
    def sources(self) -> tuple[tuple[Path, DicomOptions | None], ...]:
        """Each image with the choice of its volume, as readers take them."""
        return tuple(zip(self.images, self.dicom or [None] * len(self.images), strict=True))


class Manifest(Record):
    """The cases, channels and classes of a dataset.

    Attributes:
        channels: Name of each channel, such as ``T1`` or ``CT``.
        modalities: DICOM modality of each channel, such as ``CT`` or ``MR``, None where it is not known. Empty where
            none is known, and in older manifests.
        labels: Classes in network order; index 0 is the background. Empty until the label files have been read, where
            the layout declares no classes.
        regions: Overlapping sets of label values that the network finds in place of classes; where several hold a
            voxel, the last one is written.
        merged: Further values of label files that count as one of a class. Label maps hold none of them once they are
            read with `merge_values`.
        ignore_value: Label value of voxels that take no part in training, if there is one.
        spatial_dims: Axes of the images, 2 or 3.
        cases: Cases, sorted by id.
    """

    schema_version: Literal[1] = MANIFEST_SCHEMA
    name: str
    channels: tuple[str, ...]
    modalities: tuple[str | None, ...] = ()
    labels: tuple[LabelClass, ...]
    regions: tuple[Region, ...] = ()
    merged: tuple[MergedValues, ...] = ()
    ignore_value: int | None = None
    spatial_dims: Literal[2, 3]
    cases: tuple[Case, ...]

    @property
    def label_scheme(self) -> LabelScheme:
        """The meaning of the network's outputs."""
        return LabelScheme(self.labels, self.regions)

    @cached_property
    def values_of_segments(self) -> Mapping[frozenset[str], int]:
        """Value of a voxel by the names of the classes or regions that hold it, for segmentations that name them."""
        return values_of_segments({label.value: label.name for label in self.labels}, self.regions)

    @cached_property
    def file_names(self) -> Mapping[str, str]:
        """Name of each case's files, without suffix, by case id."""
        return file_names(case.id for case in self.cases)

    @property
    def label_values(self) -> tuple[int, ...]:
        """Value that each class has in label files, in network order."""
        return tuple(label.value for label in self.labels)


def read_manifest(work: Path) -> Manifest:
    """Read WORK/manifest.json.

    Raises:
        PlanError: If it is missing or malformed.
    """
    return read_document(work / "manifest.json", Manifest)
