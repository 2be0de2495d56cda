"""The cases of a dataset with their channels and classes: `manifest.json`.

Datasets of every layout (`dataset.layouts`) become a manifest, and all further stages read nothing else about them.

The file holds no absolute path. Files of cases are named relative to the folder that holds all of them, and that folder
relative to the work folder. Cases with a pseudonym have no files in it at all: these are in the site's table of sources
(`dataset.privacy.sources`).
"""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from unetpipe.dataset.case_names import file_names
from unetpipe.dataset.label_scheme import LabelClass, LabelScheme, Region, values_of_segments
from unetpipe.dataset.merging import MergedValues
from unetpipe.dataset.privacy.secret import VARIABLE, private_folder
from unetpipe.dataset.privacy.sources import Source, read_sources, write_sources
from unetpipe.documents import Record, read_document, write_if_changed
from unetpipe.errors import PlanError
from unetpipe.imaging.dicom.label_target import LabelTarget, SegmentRules
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.geometry import Grid

MANIFEST_SCHEMA: Final = 2


class Case(Record):
    """One scan with its label.

    Attributes:
        id: Name of the case; unique in the dataset, and any text. `Manifest.file_names` names its files.
        name: What the dataset calls the case, where its id is a pseudonym; None where the id is that. Never in a file
            but the site's table of sources.
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
    name: Annotated[str | None, Field(exclude=True)] = None
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
        segment_rules: How segments of DICOM become labels.
        spatial_dims: Axes of the images, 2 or 3.
        data_root: In the file, the folder that paths are relative to, itself relative to the work folder. None once the
            manifest is read, and in files of the first version, whose paths are absolute.
        sources: In the file, name of the site's table that holds the files of cases with pseudonyms; None where there
            are none, and once the manifest is read.
        cases: Cases, sorted by id.
    """

    schema_version: Literal[1, 2] = MANIFEST_SCHEMA
    name: str
    channels: tuple[str, ...]
    modalities: tuple[str | None, ...] = ()
    labels: tuple[LabelClass, ...]
    regions: tuple[Region, ...] = ()
    merged: tuple[MergedValues, ...] = ()
    ignore_value: int | None = None
    segment_rules: SegmentRules = SegmentRules()
    spatial_dims: Literal[2, 3]
    data_root: str | None = None
    sources: str | None = None
    cases: tuple[Case, ...]

    @property
    def label_scheme(self) -> LabelScheme:
        """The meaning of the network's outputs."""
        return LabelScheme(self.labels, self.regions)

    @cached_property
    def values_of_segments(self) -> Mapping[frozenset[str], int]:
        """Value of a voxel by the names of the classes or regions that hold it, for segmentations that name them."""
        return values_of_segments(self.label_scheme.names_by_value, self.regions)

    def label_target(self, grid: Grid) -> LabelTarget:
        """What segments of DICOM are drawn into, for an image's grid."""
        return LabelTarget(grid, self.values_of_segments, self.segment_rules)

    @cached_property
    def file_names(self) -> Mapping[str, str]:
        """Name of each case's files, without suffix, by case id."""
        return file_names(case.id for case in self.cases)

    @property
    def prediction_suffix(self) -> str:
        """Suffix of the files of labels that are predicted for held-out cases."""
        return ".nii.gz" if self.spatial_dims == 3 else ".png"

    @property
    def label_values(self) -> tuple[int, ...]:
        """Value that each class has in label files, in network order."""
        return tuple(label.value for label in self.labels)


def read_manifest(work: Path, *, with_files: bool = True) -> Manifest:
    """Read WORK/manifest.json.

    Args:
        work: Work folder.
        with_files: Read the site's table of sources, too; else cases with a pseudonym have no files.

    Raises:
        PlanError: If it is missing or malformed, or the table that names the files of its cases is not there.
    """
    stored = read_document(work / "manifest.json", Manifest)
    root = Path() if stored.data_root is None else Path(os.path.normpath(work.resolve() / stored.data_root))
    hidden = with_files and stored.sources is not None
    sources = {source.id: source for source in read_sources(work, stored.sources)} if hidden else {}
    if hidden and any(not case.images and case.id not in sources for case in stored.cases):
        raise PlanError(
            f"{work}: the table of its DICOM sources is not in {private_folder(work)}: it stays beside the work "
            f"folder, or in the folder that {VARIABLE} names; or run `unetpipe preprocess` again"
        )
    cases = tuple(_located(case, root, sources) for case in stored.cases)
    update = {"schema_version": MANIFEST_SCHEMA, "data_root": None, "sources": None, "cases": cases}
    return stored.model_copy(update=update)


def write_manifest(work: Path, manifest: Manifest) -> None:
    """Write WORK/manifest.json, and the site's table of those cases that have a pseudonym.

    Raises:
        UnetpipeError: If the table cannot be written.
    """
    hidden = [case for case in manifest.cases if case.name is not None]
    named = [path for case in manifest.cases if case.name is None for path in _files(case)]
    root = Path(os.path.commonpath([path.parent for path in named])) if named else None
    table = write_sources(work, map(source_of, hidden)) if hidden else None
    update = {
        "data_root": None if root is None else os.path.relpath(root, work.resolve()),
        "sources": table,
        "cases": tuple(_stored(case, root) for case in manifest.cases),
    }
    write_if_changed(work / "manifest.json", manifest.model_copy(update=update))


def _files(case: Case) -> list[Path]:
    return [*case.images, *([] if case.label is None else [case.label])]


def _stored(case: Case, root: Path | None) -> Case:
    """A case as the file has it: its files relative to a folder, or without them where it has a pseudonym."""
    if case.name is not None or root is None:
        return case.model_copy(update={"images": (), "dicom": (), "label": None})
    images = tuple(image.relative_to(root) for image in case.images)
    label = None if case.label is None else case.label.relative_to(root)
    return case.model_copy(update={"images": images, "label": label})


def _located(case: Case, root: Path, sources: Mapping[str, Source]) -> Case:
    """A case of the file with the absolute paths of its files."""
    if (source := sources.get(case.id)) is not None:
        update = {"name": source.name, "images": source.images, "dicom": source.dicom, "label": source.label}
        return case.model_copy(update=update)
    images = tuple(root / image for image in case.images)
    label = None if case.label is None else root / case.label
    return case.model_copy(update={"images": images, "label": label})


def source_of(case: Case) -> Source:
    """The row of the site's table for a case with a pseudonym."""
    return Source(id=case.id, name=case.name or "", images=case.images, dicom=case.dicom, label=case.label)
