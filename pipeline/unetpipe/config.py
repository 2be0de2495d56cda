"""What a person can set, one frozen model per stage.

The command line, a YAML file (`--config`) and a notebook all end here; every run saves the whole of it.
Paths are `pathlib.Path`; unknown keys are errors.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Network = Literal["dynunet", "unet"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Config(BaseModel):
    """Base of all configs: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PreprocessConfig(Config):
    """`unetpipe preprocess`."""

    dataset: Path
    out: Path
    check_only: bool = False
    """Check every case and stop; nothing is written."""
    fix_affine: bool = False
    """Adopt the image's affine where a label's differs."""
    memory_gb: Annotated[float, Field(gt=0)] = 8.0
    """GPU memory the plan aims at, as nnU-Net's presets count it."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Threads; None takes one per core."""
    max_memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Cases in flight are held back so that their estimated peak stays under this; None does not."""
    folds: Annotated[int, Field(ge=2)] = 5
    seed: int = 12345
    preview: bool = True
    """Write preview.html."""


class TrainConfig(Config):
    """`unetpipe train`."""

    work: Path
    fold: int = 0
    network: Network = "dynunet"
    configuration: str | None = None
    """Which configuration of the plan; None takes the plan's default."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """None: 1000 as published, or as many as `max_minutes` allows."""
    iterations: Annotated[int, Field(ge=1)] = 250
    """Optimiser steps per epoch."""
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    """Wall-clock budget for everything: set-up, training, validation, saving."""
    device: str = "auto"
    precision: Precision = "auto"
    seed: int = 0
    resume: bool = False
    run_name: str = "default"
    """Folder under WORK/runs."""


class InferConfig(Config):
    """`unetpipe infer`."""

    models: tuple[Path, ...]
    """Bundle folders or zips; several are averaged."""
    inputs: tuple[Path, ...]
    out: Path
    device: str = "auto"
    precision: Precision = "auto"
    step: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Distance between windows as a fraction of the patch."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Windows per forward pass; None chooses."""
    tta: bool = False
    """Average over mirrored copies along every axis."""
    skip_existing: bool = False
    save_probabilities: bool = False


class EvaluateConfig(Config):
    """`unetpipe evaluate`."""

    predictions: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Folders of label files, or single files. Two or more are compared with each other, the first one as the baseline."""
    reference: Path | None = None
    """Folder of label files, or a single file; files belong together by name without suffix. None: the work folder's."""
    out: Path
    work: Path | None = None
    """A work folder: its manifest names the classes, the patients and the images, and the references unless given."""
    cross_validation: bool = False
    """`predictions` are work folders; the held-out predictions of all folds of `run_name` are gathered from each."""
    run_name: str = "default"
    """Folder under WORK/runs, for `cross_validation`."""
    tolerance_mm: Annotated[float, Field(gt=0)] = 1.0
    """NSD tolerance of every class that `tolerances_mm` does not name."""
    tolerances_mm: dict[str, Annotated[float, Field(gt=0)]] = {}
    """NSD tolerance by class name or label value."""
    resample: bool = False
    """Take predictions on another grid to the reference's, by nearest voxel, instead of refusing them."""
    lesions: bool = False
    """Also count connected components found, missed and false."""
    fail_under: dict[str, float] = {}
    """The result has not passed if the mean of such a metric is worse in any class, e.g. ``{"dice": 0.85}``."""
    report: bool = True
    """Write report.html."""
    images: Path | None = None
    """Folder of the scans, by the references' names, to show under the report's overlays."""
    seed: int = 0
    """Of the bootstrap."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Threads; None takes one per core."""


class SlurmConfig(Config):
    """`unetpipe submit`."""

    cluster: Literal["auto", "slurm", "local"] = "auto"
    partition: str | None = None
    gpus: Annotated[int, Field(ge=0)] = 0
    cpus: Annotated[int, Field(ge=1)] = 2
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    minutes: Annotated[int, Field(ge=1)] = 1440
    logs: Path = Path("slurm")
    wait: bool = False
