"""The options of `unetpipe preprocess`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from unetpipe.components import Part
from unetpipe.config.base import (
    MAX_VOXELS,
    CaseIds,
    Config,
    Extensions,
    FixGeometry,
    MaxVoxels,
    Phase,
    Seed,
    SegmentNames,
    SegThreshold,
    Series,
)
from unetpipe.label_values import LabelValues

Preset = Literal["plain", "resenc-m", "resenc-l", "resenc-xl"]


class PreprocessConfig(Config):
    """`unetpipe preprocess`."""

    dataset: Path
    """Dataset: a Medical Segmentation Decathlon, nnU-Net or BIDS folder, a folder with images/ beside labels/, or a CSV
    or JSON list of cases."""
    images: tuple[str, ...] = ()
    """Pattern of the image files of one channel in a folder of another layout, such as '{case}/t1.nii.gz'; given once
    per channel. What '{patient}' and '{case}' match is the case's id."""
    label: str | None = None
    """Pattern of the label files in a folder of another layout, such as '{case}/seg.nii.gz'."""
    check: bool = False
    """Check every case and stop, without writing a work folder."""
    out: Annotated[Path | None, Field(validate_default=True)] = None
    """Work folder to make or to bring up to date. Required unless `--check` is given."""
    modality: tuple[str, ...] = ()
    """DICOM modality of the channels, such as CT or MR: one for all, or one per channel in their order. CT is
    normalised by the Hounsfield units of the dataset's foreground, every other modality image by image."""
    labels: dict[str, LabelValues] = {}
    """Label values of each class by name, instead of those that the dataset declares: liver=1, or several values as
    one class, such as axon=255,233-254, of which predictions get the first. The names background and ignore say which
    values count as background and which take no part."""
    segment_names: SegmentNames = {}
    seg_threshold: SegThreshold = None
    series: Series = ()
    phase: Phase = None
    fix_geometry: FixGeometry = False
    case_ids: CaseIds = None
    fix_affine: bool = False
    """Adopt the first image's affine where that of a label or of another channel differs and the shapes are equal."""
    init: str | None = None
    """Bundle to be trained on with this dataset by `train --init`: a path, the name of a bundle, or a registered model.
    Its preprocessing, patch and network's shape become the plan."""
    preset: Preset = "plain"
    """What the plan is for: nnU-Net's plain U-Net, or its residual encoders for GPUs of 8, 24 and 40 GB."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """GPU memory in GB that the plan aims at, as nnU-Net's presets count it. Default: the preset's own."""
    configuration: str | None = None
    """Configuration of the plan to preprocess, such as 3d_lowres. Default: the one that the plan names."""
    spacing_mm: tuple[float, ...] | None = None
    """Voxel size of the full resolution along right, anterior and superior, in mm. Default: by nnU-Net's rule, from the
    spacings of the dataset."""
    preprocessing_step: tuple[Part, ...] = ()
    """A transform that every image goes through, in training and inference, as a definition, such as
    '{_target_: monai.transforms.MedianSmoothd, radius: 1}'. Steps follow each other and the normalisation; those before
    the word `normalize` come before it."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Number of threads. Default: one per available core."""
    max_memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Limit in GB of the estimated memory of the cases that are processed at the same time; further cases wait."""
    max_voxels: MaxVoxels = MAX_VOXELS
    folds: Annotated[int, Field(ge=2)] | None = None
    """Number of folds of the cross-validation, unless the dataset declares its own. Default: as many as the work folder
    has, else 5."""
    seed: Seed = 12345
    """Seed of the split into folds and of the sampling of intensities."""
    preview: bool = True
    """Write preview.html, which shows every case with its label."""
    extension: Extensions = ()

    @field_validator("out")
    @classmethod
    def _is_given(cls, out: Path | None, info: ValidationInfo) -> Path | None:
        if out is None and not info.data.get("check"):
            raise PydanticCustomError("missing", "Field required")
        return out
