"""The options of `unetpipe infer`, and of `unetpipe merge`, which follows it where its scans were shared out."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from unetpipe.config.base import (
    MAX_VOXELS,
    CaseIds,
    Config,
    Extensions,
    FixGeometry,
    MaxVoxels,
    Phase,
    Precision,
    Series,
)

Engine = Literal["torch", "openvino", "auto"]
DicomFormat = Literal["dicom-seg", "rtstruct", "dicom-sr"]
OutputFormat = Literal["nifti", DicomFormat]
SegmentationType = Literal["binary", "labelmap", "fractional"]


class InferConfig(Config):
    """`unetpipe infer`."""

    models: tuple[Path, ...]
    """Bundle folders or zips, the folder of a run with several folds, names of bundles (`unetpipe models list`), or
    models of MLflow's registry, such as models:/NAME@champion. Several models are averaged."""
    inputs: tuple[Path, ...] = ()
    """Scans: files, zips, folders of these, DICOM series and trees of them, wildcards, or a dataset of any layout, with
    or without labels."""
    images: tuple[str, ...] = ()
    """Pattern of a channel's scans below the folders given, such as '{patient}/{case}/t1.nii.gz'; one per channel."""
    list: Path | None = None
    """More inputs: a text file with one per line, relative to its folder, or a CSV or JSON list of cases."""
    out: Path
    """Folder for the label maps."""
    format: tuple[OutputFormat, ...] = ()
    """Format of the output. `nifti`: label maps. For DICOM sources also `dicom-seg`: coded segmentations, `rtstruct`:
    structure sets of contours, and `dicom-sr`: reports of volumes, each in the folder of that name. Unless given, label
    maps in the scan's own format, and NIfTI for DICOM sources."""
    seg_type: SegmentationType = "binary"
    """Content of `dicom-seg`: `binary` has a bit per voxel and segment, `labelmap` one number per voxel, which fewer
    programs read, `fractional` the probabilities."""
    uncoded: bool = False
    """Write DICOM segments under a private code where the model has none for a class; see `unetpipe bundle
    --segments`."""
    series: Series = ()
    phase: Phase = None
    fix_geometry: FixGeometry = False
    case_ids: CaseIds = None
    fix_affine: bool = False
    """Adopt the first channel's affine where that of another channel differs and the shapes are equal."""
    max_voxels: MaxVoxels = MAX_VOXELS
    device: str = "auto"
    """Device to compute on: `cpu`, `cuda`, `cuda:1` or `mps`; `auto` takes a GPU where there is one."""
    precision: Precision = "auto"
    """Precision of matrix products; `auto` takes the fastest that the device has in hardware."""
    deterministic: bool = False
    """Compute in an order that gives the same bits each time, which a GPU otherwise does not; slower there. On a CPU it
    is so anyway."""
    engine: Engine = "torch"
    """What computes the network. `openvino` is faster on some CPUs and takes longer to start; it needs `pip install
    'unetpipe[openvino]'`. `auto` times both on windows of the first scan where there is work for a minute or more."""
    step: Annotated[float, Field(gt=0, le=1)] | None = None
    """Distance between neighbouring windows, as a fraction of the patch. Default: 0.5, or what a bundle of MONAI's
    Model Zoo says."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Number of windows per forward pass. Default: chosen for the device."""
    tta: bool = False
    """Average over mirrored copies of each window, along the axes that were mirrored in training."""
    postprocess: bool = True
    """Keep only the largest connected component of those classes for which the model's validation found that better."""
    flag_below: Annotated[float, Field(ge=0, le=1)] | None = None
    """Name in the result, as scans to check, those with a class whose predicted Dice is below this, such as 0.8."""
    shard: str | None = None
    """Segment only the I-th of N parts of the scans, given as I/N, for job arrays."""
    skip_existing: bool = False
    """Skip scans whose outputs exist already, if a predictions.json in OUT tells of them or there is none."""
    save_probabilities: bool = False
    """Also write the probabilities of all classes to probabilities/CASE.npz, as float16."""
    save_uncertainty: bool = False
    """Also write the entropy of the mean probabilities, from 0 to 1, to uncertainty/CASE."""
    save_classes: bool = False
    """Also write one mask per class that was found to classes/CASE/NAME."""
    extension: Extensions = ()


class MergeConfig(Config):
    """`unetpipe merge`."""

    out: Path
    """Folder of the labels, with a predictions-I-of-N.json of each shard."""
    shards: Annotated[int, Field(ge=1)]
    """Number of shards, N."""
