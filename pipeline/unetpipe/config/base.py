"""What the configs of all commands share: their base, and options that several of them have.

The command line, a YAML file (`--config`) and a notebook all end in a config; every run saves the whole of it.
Paths are `pathlib.Path`; unknown keys are errors.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from unetpipe.documents import Record
from unetpipe.yaml_text import YamlError, parse_yaml

Precision = Literal["auto", "fp32", "bf16", "fp16"]
CaseIdKind = Literal["hash", "name"]


def _tracker_word(value: Any) -> Any:
    """`tracking` was a switch once: what is written as one names MLflow, or nothing."""
    words = {True: "mlflow", False: "none", "true": "mlflow", "false": "none"}
    return words.get(value, value) if isinstance(value, str | int) else value


Tracking = Annotated[str, BeforeValidator(_tracker_word)]
"""A tracker by its registered name (see `unetpipe.tracking.named`)."""


def typed_yaml(value: Any) -> Any:
    """Read a value that was typed on the command line as YAML."""
    try:
        return parse_yaml(value) if isinstance(value, str) else value
    except YamlError:
        raise ValueError(f"{value!r:.60} is not YAML") from None


def _separated(value: Any) -> Any:
    """Names that were typed with commas between them."""
    return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value


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
SegmentNames = Annotated[
    dict[str, Annotated[tuple[str, ...], BeforeValidator(_separated)]],
    Field(
        description="Names of the segments or structures in DICOM labels that are one class, beside its own name: "
        "kidney='left kidney,right kidney'."
    ),
]
SegThreshold = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        description="Share of the highest value from which a voxel belongs to a segment of a fractional DICOM "
        "segmentation; 0.5 unless given.",
    ),
]
FixGeometry = Annotated[
    bool,
    Field(
        description="Interpolate missing slices of a DICOM series, make uneven gaps even and undo the tilt of a "
        "gantry, where they are refused otherwise."
    ),
]
CaseIds = Annotated[
    CaseIdKind | None,
    Field(
        description="What cases are called: `name` takes the names of files, folders or rows, and `hash` ids that are "
        "computed from UIDs or names and the site's secret. Default: hash for DICOM, name for other formats."
    ),
]
Extensions = Annotated[
    tuple[str, ...],
    Field(
        description="Code of your own that registers parts, such as losses, when it is imported: a Python file, the "
        "name of an installed extension, or a module."
    ),
]


def _one_folder(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError("expected the name of one folder, without /")
    return name


RunName = Annotated[str, AfterValidator(_one_folder)]
"""The name of a run, which is that of its folder: what is looked for in `runs/*` has to be there."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every generator takes as a seed."""

MAX_VOXELS = 1 << 30
"""Voxels of one image unless `--max-voxels` says otherwise: 1024 x 1024 x 1024."""
MaxVoxels = Annotated[
    int,
    Field(
        ge=1,
        description="Limit of the voxels of one image or label, all channels counted. A file that claims more is "
        "refused before memory is taken for it.",
    ),
]


class Config(Record):
    """Base of all configs: frozen, and strict about names. A field's docstring is its help on the command line."""

    model_config = ConfigDict(use_attribute_docstrings=True, allow_inf_nan=False)
