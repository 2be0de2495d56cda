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
"""A tracker by its registered name (see `unetpipe.tracking.named`)."""


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
    """Dataset: a Medical Segmentation Decathlon, nnU-Net or BIDS folder, a folder with images/ beside labels/, or a CSV
    or JSON list of cases."""
    images: tuple[str, ...] = ()
    """Pattern of the image files of one channel in a folder of another layout, such as '{case}/t1.nii.gz'; given once
    per channel. What '{patient}' and '{case}' match is the case's id."""
    label: str | None = None
    """Pattern of the label files in a folder of another layout, such as '{case}/seg.nii.gz'."""
    check: bool = False
    """Check every case and stop, without writing anything."""
    out: Annotated[Path | None, Field(validate_default=True)] = None
    """Work folder to make or to bring up to date. Required unless `--check` is given."""
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
    folds: Annotated[int, Field(ge=2)] = 5
    """Number of folds of the cross-validation, unless the dataset declares its own."""
    seed: int = 12345
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


class TrainConfig(Config):
    """`unetpipe train`."""

    work: Path
    """Work folder that `unetpipe preprocess` made."""
    fold: int = 0
    """Number of the fold whose validation cases are held out."""
    folds: str | None = None
    """Train several folds, one after the other, in place of `fold`: `all`, or numbers such as 0,1,3."""
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
    """Configuration of the plan to train. Default: the one that the plan names."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Number of epochs. Default: 1000 as published, or as many as `max_minutes` allows."""
    iterations: Annotated[int, Field(ge=1)] = 250
    """Number of optimiser steps per epoch."""
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    """Wall-clock budget of a fold in minutes, which covers set-up, training, validation and saving."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop early when the smoothed Dice has not risen for this number of epochs."""
    target_dice: Annotated[float, Field(gt=0, le=1)] | None = None
    """Stop early when the smoothed Dice reaches this value."""
    deploy: Literal["last", "best"] = "last"
    """Weights that the bundle gets at the end: the last ones, or those with the best smoothed Dice."""
    augmentation: Strength = "default"
    """How often images are augmented: `default` as nnU-Net does, `light` half as often, `strong` one and a half times
    as often, `none` never."""
    augmentation_options: dict[str, Any] = {}
    """Changes of single transforms, as YAML: rotation.probability=0.3, gamma.exponent=[0.5, 2], mirror=off."""
    augmentation_steps: tuple[Part, ...] = ()
    """Random transform that follows the package's own: one of an extension, or a definition, such as
    '{_target_: monai.transforms.RandBiasFieldd, prob: 0.3}'."""
    device: str = "auto"
    """Device to compute on: `cpu`, `cuda`, `cuda:1` or `mps`; `auto` takes a GPU where there is one."""
    gpus: Annotated[int, Field(ge=1)] = 1
    """GPUs of this machine that share each batch (processes with `--device cpu`)."""
    precision: Precision = "auto"
    """Precision of matrix products; `auto` takes the fastest that the device has in hardware."""
    seed: int = 0
    """Seed of weights, sampling and augmentation."""
    run_name: str = "default"
    """Name of the run, which is its folder under WORK/runs. The same command continues a run that was interrupted."""
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
    """Bundle folders or zips, or the folder of a run with several folds. Several models are averaged."""
    inputs: tuple[Path, ...] = ()
    """Scans: files, zips, folders of these, DICOM series and trees of them, wildcards, or a dataset of any layout, with
    or without labels."""
    images: tuple[str, ...] = ()
    """Pattern of a channel's scans below the folders given, such as '{patient}/{case}/t1.nii.gz'; one per channel."""
    list: Path | None = None
    """More inputs: a text file with one per line, relative to its folder, or a CSV or JSON list of cases."""
    out: Path
    """Folder for the label maps."""
    series: Series = ()
    phase: Phase = None
    fix_geometry: FixGeometry = False
    fix_affine: bool = False
    """Adopt the first channel's affine where that of another channel differs and the shapes are equal."""
    device: str = "auto"
    """Device to compute on: `cpu`, `cuda`, `cuda:1` or `mps`; `auto` takes a GPU where there is one."""
    precision: Precision = "auto"
    """Precision of matrix products; `auto` takes the fastest that the device has in hardware."""
    engine: Engine = "torch"
    """What computes the network. `openvino` is faster on CPUs and takes longer to start; it needs `pip install
    'unetpipe[openvino]'`."""
    step: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Distance between neighbouring windows, as a fraction of the patch."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Number of windows per forward pass. Default: chosen for the device."""
    tta: bool = False
    """Average over mirrored copies of each window, along the axes that were mirrored in training."""
    postprocess: bool = True
    """Keep only the largest connected component of those classes for which the model's validation found that better."""
    shard: str | None = None
    """Segment only the I-th of N parts of the scans, given as I/N, for job arrays."""
    skip_existing: bool = False
    """Skip scans whose label maps exist already."""
    save_probabilities: bool = False
    """Also write the probabilities of all classes to probabilities/CASE.npz, as float16."""
    save_uncertainty: bool = False
    """Also write the entropy of the mean probabilities, from 0 to 1, to uncertainty/CASE."""
    save_classes: bool = False
    """Also write one mask per class that was found to classes/CASE/NAME."""
    extension: Extensions = ()


class EvaluateConfig(Config):
    """`unetpipe evaluate`."""

    predictions: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Folders of label files, or single label files. Further ones are compared with the first."""
    reference: Path | None = None
    """Folder of reference labels, or a single file; files are paired by name. Default: the references of the work
    folder."""
    out: Path
    """Folder for the metrics and the report."""
    work: Path | None = None
    """Work folder whose manifest names the classes, the patients and the images, and the references unless they are
    given."""
    cross_validation: bool = False
    """Take `predictions` as work folders, and gather from each what all folds of `run_name` predicted for the cases
    that they held out."""
    run_name: str = "default"
    """Name of the run whose folds `cross_validation` gathers."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """Evaluate only the cases that this fold of the work folder holds out."""
    labels: Annotated[dict[str, LabelValues], Field(validation_alias=AliasChoices("labels", "classes"))] = {}
    """Label values of each class to report, by name: liver=1, or several values as one class, such as axon=255,233-254.
    Empty: the work folder's, or every value that occurs."""
    tolerance_mm: Annotated[float, Field(gt=0)] = 1.0
    """Tolerance of NSD in mm, for every class that `tolerances_mm` does not name."""
    tolerances_mm: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Tolerance of NSD in mm, by class name or label value."""
    resample: bool = False
    """Resample predictions on another grid to that of the reference, by nearest neighbour, instead of refusing them."""
    metric: tuple[Part, ...] = ()
    """A further metric: a name that an extension has registered, or a definition of one of MONAI's, such as
    '{_target_: monai.metrics.SurfaceDiceMetric, class_thresholds: [2.0]}'."""
    lesions: bool = False
    """Also match connected components, and count those that are found, missed and false."""
    fail_under: dict[str, float] = {}
    """Bound of the mean of a metric in every class, such as dice=0.85 or hd95_mm=3. The evaluation has not passed, and
    the command exits with 1, if a mean is worse."""
    report: bool = True
    """Write report.html."""
    viewer: Literal["niivue"] | None = None
    """Also write viewer.html, which shows the cases of the report in 3-D. It needs NiiVue in this folder: npm install
    @niivue/niivue."""
    images: Path | None = None
    """Folder of scans with the names of the references, to show under the overlays of the report."""
    tracking: Tracking = "mlflow"
    """Add figures and report to the run that trained the model, where predictions.json names it: `mlflow`, `none`, or
    a tracker of an extension."""
    seed: int = 0
    """Seed of the bootstrap."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Number of threads. Default: one per available core."""
    extension: Extensions = ()


class PackageConfig(Config):
    """`unetpipe bundle`."""

    model: Path
    """Bundle folder, such as WORK/runs/default/fold_0."""
    torchscript: bool = False
    """Also export the network as TorchScript to models/model.ts, which runs without Python."""
    onnx: bool = False
    """Also export the network as ONNX to models/model.onnx. Needs `pip install 'unetpipe[onnx]'`."""
    pt2: bool = False
    """Also export the network as a program of torch.export to models/model.pt2."""
    openvino: bool = False
    """Also export the network for OpenVINO to models/model.xml. Needs `pip install 'unetpipe[openvino]'`."""
    zip: Path | None = None
    """Pack the bundle, without the other files of its folder, into this zip. The same bundle gives the same bytes."""


class MergeConfig(Config):
    """`unetpipe merge`."""

    out: Path
    """Folder of the labels, with a predictions-I-of-N.json of each shard."""
    shards: Annotated[int, Field(ge=1)]
    """Number of shards, N."""


class DemoConfig(Config):
    """`unetpipe demo`."""

    out: Path = Path("demo")
    """Folder to make. One that an earlier demo made is replaced."""
    minutes: Annotated[float, Field(gt=0)] = 3.0
    """Minutes of training, validation included."""
    seed: int = 0
    """Seed of the dataset and of the training."""


class InfoConfig(Config):
    """`unetpipe info`."""

    path: Path | None = None
    """Work folder, bundle or DICOM source (folder, zip or file) to describe. Default: this installation."""
