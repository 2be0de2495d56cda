"""What a person can set, one frozen model per stage.

The command line, a YAML file (`--config`) and a notebook all end here; every run saves the whole of it.
Paths are `pathlib.Path`; unknown keys are errors.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from unetpipe.components import Part
from unetpipe.documents import Record
from unetpipe.label_values import LabelValues

Preset = Literal["plain", "resenc-m", "resenc-l", "resenc-xl"]
Strength = Literal["none", "light", "default", "strong"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Engine = Literal["torch", "openvino"]


def _tracker_word(value: Any) -> Any:
    """`tracking` was a switch once: what is written as one names MLflow, or nothing."""
    return {True: "mlflow", False: "none", "true": "mlflow", "false": "none"}.get(value, value)


Tracking = Annotated[str, BeforeValidator(_tracker_word)]
"""A tracker by its word (see `unetpipe.tracking.named`)."""


def _typed_yaml(value: Any) -> Any:
    """Read a value that was typed on the command line as YAML."""
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        raise ValueError(f"{value!r} is no YAML") from None


Series = Annotated[
    tuple[str, ...],
    Field(
        description="Which series of a DICOM source to read: its number in `unetpipe info SOURCE`, its UID, or a rule "
        "such as 'Modality=MR,SeriesDescription~t1'; one per channel. Unless given, the only one that holds a volume."
    ),
]
Phase = Annotated[
    int | None,
    Field(
        ge=1,
        description="Which volume of a DICOM series that holds several, such as echoes or time points: its number in "
        "`unetpipe info SOURCE`.",
    ),
]
FixGeometry = Annotated[
    bool,
    Field(
        description="Interpolate missing slices of a DICOM series, make uneven gaps even and undo the tilt of a "
        "gantry, where they are refused otherwise."
    ),
]
Extensions = Annotated[
    tuple[str, ...],
    Field(
        description="Code of your own that registers parts, such as losses, when it is imported: a Python file, the "
        "name of an installed extension, or a module."
    ),
]


class Config(Record):
    """Base of all configs: frozen, and strict about names. A field's docstring is its help on the command line."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class PreprocessConfig(Config):
    """`unetpipe preprocess`."""

    dataset: Path
    """A Medical Segmentation Decathlon, nnU-Net or BIDS folder, images/ beside labels/, or a CSV or JSON list."""
    images: tuple[str, ...] = ()
    """Pattern of a channel's files in a folder of another layout, such as '{case}/t1.nii.gz'; one per channel. What
    '{patient}' and '{case}' match is the case's id."""
    label: str | None = None
    """Pattern of the labels, such as '{case}/seg.nii.gz'."""
    check: bool = False
    """Check every case and stop; nothing is written."""
    out: Annotated[Path | None, Field(validate_default=True)] = None
    """The work folder to make. Required, but for a mere `--check`."""
    modality: tuple[str, ...] = ()
    """DICOM modality of the channels, such as CT or MR: one for all, or one per channel in their order. CT is
    normalised by the Hounsfield units of the dataset's foreground, every other modality image by image."""
    labels: dict[str, LabelValues] = {}
    """Label values of each class by name, instead of those that the dataset declares: liver=1, or several values as
    one class, such as axon=255,233-254, of which predictions get the first. The names background and ignore say which
    values count as background and which take no part."""
    series: Series = ()
    phase: Phase = None
    fix_geometry: FixGeometry = False
    fix_affine: bool = False
    """Adopt the first image's affine where that of a label or of another channel differs and the shapes are equal."""
    preset: Preset = "plain"
    """What is planned for: nnU-Net's plain U-Net, or its residual encoders for GPUs of 8, 24 and 40 GB."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """GPU memory the plan aims at, as nnU-Net's presets count it; the preset's own unless given."""
    configuration: str | None = None
    """Which configuration of the plan to preprocess; the plan's default unless given."""
    spacing_mm: tuple[float, ...] | None = None
    """Voxel size of the full resolution along right, anterior, superior; the dataset's median unless given."""
    preprocessing_step: tuple[Part, ...] = ()
    """A transform that every image goes through, in training and inference, as a definition, such as
    '{_target_: monai.transforms.MedianSmoothd, radius: 1}'. Steps follow each other and the normalisation; those before
    the word `normalize` come before it."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Threads; one per core unless given."""
    max_memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Cases in flight are held back so that their estimated peak stays under this."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts of the cross-validation, unless the dataset declares folds."""
    seed: int = 12345
    """Of the split into folds and of the sampling."""
    preview: bool = True
    """Write preview.html."""
    extension: Extensions = ()

    @field_validator("out")
    @classmethod
    def _is_given(cls, out: Path | None, info: ValidationInfo) -> Path | None:
        if out is None and not info.data.get("check"):
            raise PydanticCustomError("missing", "Field required")
        return out


class TrainConfig(Config):
    """`unetpipe train`."""

    work: Path
    """What `unetpipe preprocess` made."""
    fold: int = 0
    """Which part of the cases is held out for validation."""
    folds: str | None = None
    """Train several folds one after the other, instead of `fold`: `all`, or numbers such as 0,1,3."""
    network: Part = "auto"
    """`auto` follows the plan: `resenc`, a residual encoder, if it has `encoder_blocks`, else `dynunet`. `unet` is the
    classic U-Net. Also `segresnet`, `swinunetr`, a network of an extension, or any class of monai.networks.nets by its
    name or as a definition, such as '{_target_: monai.networks.nets.UNet, channels: [16, 32], strides: [2]}'."""
    network_options: dict[str, Any] = {}
    """Arguments of a network that is given by its name, as YAML: norm=none or upsampling=interpolated for `unet`, the
    constructor's for a class."""
    loss: Part = "dice_ce"
    """`dice_ce`: Dice + cross-entropy. `dice_focal`: Dice + focal (gamma 2), where most voxels are easy. `tversky_ce`:
    Tversky (alpha 0.3, beta 0.7) + cross-entropy, where a missed voxel should cost more than a false one. Or a loss of
    an extension, or a definition, such as '{_target_: monai.losses.HausdorffDTLoss}'."""
    class_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Weight of a class in the cross-entropy or focal term, by name; 1 unless given."""
    optimizer: Part | None = None
    """`sgd` (Nesterov momentum 0.99), `muon`, `adamw`, an optimiser of an extension, or a definition, such as
    '{_target_: torch.optim.RMSprop}'. Unless given, `sgd` for 50,000 steps or more and `muon` for fewer."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; the optimiser's own unless given: 0.01 for `sgd`, 0.005 for `muon`, 0.002 for `adamw`."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Weight decay; the optimiser's own unless given: 0.00003 for `sgd`, 0.01 for `muon` and `adamw`."""
    schedule: Part | None = None
    """Learning rate over the run: `poly`, `one_cycle`, `cosine`, `constant`, a schedule of an extension, or a
    definition, such as '{_target_: torch.optim.lr_scheduler.StepLR, step_size: 300}', whose steps are thousandths of
    the run. Unless given, `poly` for `sgd`, else `one_cycle`."""
    clip: Annotated[float, Field(ge=0)] = 12.0
    """Largest norm of a step's gradient, which is scaled down to it; 0 leaves every gradient as it is."""
    ema: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Memory of the moving average of weights that is deployed, as a share of the run so far; 0 deploys the last step's
    weights."""
    foreground_share: Annotated[float, Field(ge=0, le=1)] = 1 / 3
    """Share of each batch whose patches are centred on a foreground voxel; nnU-Net's is a third."""
    configuration: str | None = None
    """Which configuration of the plan; the plan's default unless given."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Unless given: 1000 as published, or as many as `max_minutes` allows."""
    iterations: Annotated[int, Field(ge=1)] = 250
    """Optimiser steps per epoch."""
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    """Wall-clock budget of a fold for everything: set-up, training, validation, saving."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop early when the smoothed Dice has not risen for so many epochs."""
    target_dice: Annotated[float, Field(gt=0, le=1)] | None = None
    """Stop early when the smoothed Dice reaches this."""
    deploy: Literal["last", "best"] = "last"
    """Weights that the bundle gets in the end: the last ones, or the best by smoothed Dice."""
    augmentation: Strength = "default"
    """How often images are changed: `default` is nnU-Net's, `light` half as often, `strong` half as often again."""
    augmentation_options: dict[str, Any] = {}
    """Changes of single transforms, as YAML: rotation.probability=0.3, gamma.exponent=[0.5, 2], mirror=off."""
    augmentation_steps: tuple[Part, ...] = ()
    """Random transform that follows the package's own: one of an extension, or a definition, such as
    '{_target_: monai.transforms.RandBiasFieldd, prob: 0.3}'."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes a GPU where there is one."""
    gpus: Annotated[int, Field(ge=1)] = 1
    """GPUs of this machine that share each batch (processes with `--device cpu`)."""
    precision: Precision = "auto"
    """`auto` takes the fastest that the device has in hardware."""
    seed: int = 0
    """Seed of weights, sampling and augmentation."""
    run_name: str = "default"
    """Folder under WORK/runs. The same command goes on with a run that was interrupted."""
    tracking: Tracking = "mlflow"
    """Where the run's curves and figures go besides its folder: `mlflow`, `none`, or a tracker of an extension."""
    extension: Extensions = ()

    @field_validator("network_options", "augmentation_options", mode="before")
    @classmethod
    def _typed_values(cls, options: Any) -> Any:
        """Read values that were typed on the command line as YAML."""
        if not isinstance(options, dict):
            return options
        return {name: _typed_yaml(value) for name, value in options.items()}

    @field_validator("augmentation_options", mode="after")
    @classmethod
    def _nested(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Gather ``transform.field`` under the transform, so that both ways of writing compare equal."""
        nested: dict[str, Any] = {}
        for name, value in options.items():
            transform, dot, field = name.partition(".")
            given, earlier = {field: value} if dot else value, nested.get(transform, {})
            if not isinstance(earlier, dict) or (earlier and not isinstance(given, dict)):
                raise ValueError(f"{transform} is given as a whole and by its fields")
            nested[transform] = earlier | given if isinstance(given, dict) else given
        return nested


class InferConfig(Config):
    """`unetpipe infer`."""

    models: tuple[Path, ...]
    """Bundle folders or zips; several are averaged."""
    inputs: tuple[Path, ...] = ()
    """Scans: files, zips, folders of these, DICOM series and trees of them, wildcards, or a dataset of any layout, with
    or without labels."""
    images: tuple[str, ...] = ()
    """Pattern of a channel's scans below the folders given, such as '{patient}/{case}/t1.nii.gz'; one per channel."""
    list: Path | None = None
    """More inputs: a text file with one per line, relative to its folder, or a CSV or JSON list of cases."""
    out: Path
    """Folder for the labels."""
    series: Series = ()
    phase: Phase = None
    fix_geometry: FixGeometry = False
    fix_affine: bool = False
    """Adopt the first channel's affine where that of another channel differs and the shapes are equal."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes a GPU where there is one."""
    precision: Precision = "auto"
    """`auto` takes the fastest that the device has in hardware."""
    engine: Engine = "torch"
    """`openvino` is faster on CPUs, and slower to start; needs `pip install 'unetpipe[openvino]'`."""
    step: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Distance between windows as a fraction of the patch."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Windows per forward pass; chosen for the device unless given."""
    tta: bool = False
    """Average over mirrored copies, along the axes that were mirrored in training."""
    postprocess: bool = True
    """Keep only the largest component of the classes for which the model's validation found that better."""
    shard: str | None = None
    """Only the I-th of N parts of the scans, as I/N: for job arrays."""
    skip_existing: bool = False
    """Leave out scans whose labels are there already."""
    save_probabilities: bool = False
    """Also write probabilities/CASE.npz: float16, all classes."""
    save_uncertainty: bool = False
    """Also write uncertainty/CASE: entropy of the mean probabilities, from 0 to 1."""
    save_classes: bool = False
    """Also write classes/CASE/NAME: one mask per class that was found."""
    extension: Extensions = ()


class EvaluateConfig(Config):
    """`unetpipe evaluate`."""

    predictions: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Folders of label files, or single files. Further ones are compared with the first."""
    reference: Path | None = None
    """Folder of label files, or a single file; files belong together by name. The work folder's unless given."""
    out: Path
    """Folder for the metrics and the report."""
    work: Path | None = None
    """A work folder: its manifest names the classes, the patients and the images, and the references unless given."""
    cross_validation: bool = False
    """`predictions` are work folders; the held-out predictions of all folds of `run_name` are gathered from each."""
    run_name: str = "default"
    """Folder under WORK/runs, for `cross_validation`."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """Only the cases that this fold of the work folder holds out."""
    labels: Annotated[dict[str, LabelValues], Field(validation_alias=AliasChoices("labels", "classes"))] = {}
    """Label values of each class to report, by name: liver=1, or several values as one class, such as axon=255,233-254.
    Empty: the work folder's, or every value that occurs."""
    tolerance_mm: Annotated[float, Field(gt=0)] = 1.0
    """NSD tolerance of every class that `tolerances_mm` does not name."""
    tolerances_mm: dict[str, Annotated[float, Field(gt=0)]] = {}
    """NSD tolerance by class name or label value."""
    resample: bool = False
    """Take predictions on another grid to the reference's, by nearest voxel, instead of refusing them."""
    metric: tuple[Part, ...] = ()
    """A further metric: a word that an extension has registered, or a definition of one of MONAI's, such as
    '{_target_: monai.metrics.SurfaceDiceMetric, class_thresholds: [2.0]}'."""
    lesions: bool = False
    """Also count connected components found, missed and false."""
    fail_under: dict[str, float] = {}
    """The result has not passed if the mean of such a metric is worse in any class, such as dice=0.85."""
    report: bool = True
    """Write report.html."""
    viewer: Literal["niivue"] | None = None
    """Also write viewer.html, the report's cases in 3-D. Needs NiiVue here: npm install @niivue/niivue."""
    images: Path | None = None
    """Folder of the scans, by the references' names, to show under the report's overlays."""
    tracking: Tracking = "mlflow"
    """Add figures and report to the run that trained the model, where predictions.json names it: `mlflow`, `none`, or
    a tracker of an extension."""
    seed: int = 0
    """Of the bootstrap."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Threads; one per core unless given."""
    extension: Extensions = ()


class PackageConfig(Config):
    """`unetpipe bundle`."""

    model: Path
    """Bundle folder, such as WORK/runs/default/fold_0."""
    torchscript: bool = False
    """Also write models/model.ts, which runs without Python."""
    zip: Path | None = None
    """Pack the bundle, and nothing else in its folder, into this file; the same bundle gives the same bytes."""


class SubmitConfig(Config):
    """`unetpipe submit`."""

    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The unetpipe command with its options, as it would be typed here."""
    folds: str | None = None
    """Submit `train` once per fold: `all`, or numbers such as 0,1,4."""
    cluster: Literal["auto", "slurm", "local"] = "auto"
    """`local` is a background process; `auto` takes Slurm where it answers."""
    partition: str | None = None
    """Slurm's partition; its default unless given."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs per job; with 0 a job sees none."""
    cpus: Annotated[int, Field(ge=1)] = 2
    """Cores per job."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Memory per job; the partition's default unless given."""
    minutes: Annotated[int, Field(ge=1)] = 1440
    """Wall-clock limit of a job; a training that meets it is requeued and resumes."""
    sbatch: dict[str, str] = {}
    """Further options of sbatch by their long names, such as account=lab or qos=high."""
    logs: Path = Path("slurm")
    """Folder for the jobs' output."""
    wait: bool = False
    """Wait for the jobs; the exit code is that of the first that failed, and its last lines are shown."""


class DemoConfig(Config):
    """`unetpipe demo`."""

    out: Path = Path("demo")
    """Folder to make; one that an earlier demo made is replaced."""
    minutes: Annotated[float, Field(gt=0)] = 3.0
    """For training, validation included."""
    seed: int = 0
    """Of the dataset and the training."""


class InfoConfig(Config):
    """`unetpipe info`."""

    path: Path | None = None
    """A work folder, a bundle, or a DICOM source (folder, zip or file), whose series are listed. Unless given: versions
    and devices of this installation."""
