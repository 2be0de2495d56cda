"""The plan of preprocessing and network: `plan.yaml`, commented and meant to be edited."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import ValidationError, field_validator, model_validator

from unetpipe.documents import Record, explain, is_default
from unetpipe.errors import PlanError
from unetpipe.imaging.geometry import Shape, Spacing
from unetpipe.imaging.preprocessing import (
    DEFAULT_STEPS,
    ChannelNormalization,
    Interpolation,
    Orientation,
    Preprocessing,
    Resampling,
    Step,
    require_steps_suit,
)
from unetpipe.yaml_text import YamlError, read_yaml

PLAN_SCHEMA: Final = 1


class Configuration(Record):
    """One resolution and the network that suits it.

    Attributes:
        spacing_mm: Voxel size that images are resampled to, along right, anterior, superior.
        interpolation: Interpolation of images along each axis.
        median_shape: Median size of the dataset's images after resampling.
        patch_size: Voxels along each axis that the network sees at once.
        batch_size: Patches per training step.
        strides: Strides of each stage along each axis; those of the first stage are 1.
        kernel_sizes: Kernel sizes of each stage along each axis.
        features: Channels of each stage.
        encoder_blocks: Residual blocks of each stage of a residual encoder, whose decoder has one convolution per
            stage; None for the plain U-Net, which has two convolutions per stage on both sides.
    """

    spacing_mm: Spacing
    interpolation: tuple[Interpolation, ...]
    median_shape: Shape
    patch_size: Shape
    batch_size: int
    strides: tuple[Shape, ...]
    kernel_sizes: tuple[Shape, ...]
    features: tuple[int, ...]
    encoder_blocks: tuple[int, ...] | None = None

    @property
    def spatial_dims(self) -> int:
        return len(self.patch_size)

    @property
    def thin(self) -> tuple[bool, ...]:
        """Whether patches are one voxel thick along each axis, as slices of volumes are along one."""
        return tuple(n == 1 for n in self.patch_size)

    @field_validator("spacing_mm", "median_shape", "patch_size", "features")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or not all(0 < value < math.inf for value in values):
            raise ValueError(f"expected positive numbers, got {list(values)}")
        return values

    @field_validator("batch_size")
    @classmethod
    def _at_least_one(cls, value: int) -> int:
        if value < 1:
            raise ValueError(f"expected at least 1, got {value}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        axes, stages = len(self.patch_size), len(self.features)
        for name in ("spacing_mm", "interpolation", "median_shape"):
            if len(getattr(self, name)) != axes:
                raise ValueError(f"{name} has {len(getattr(self, name))} axes, patch_size has {axes}")
        for name in ("strides", "kernel_sizes"):
            rows = getattr(self, name)
            if len(rows) != stages:
                raise ValueError(f"{name} has {len(rows)} stages, features has {stages}")
            if any(len(row) != axes or min(row) < 1 for row in rows):
                raise ValueError(f"{name} should have {axes} positive numbers per stage, got {rows}")
        if self.encoder_blocks is not None and (len(self.encoder_blocks) != stages or min(self.encoder_blocks) < 1):
            raise ValueError(f"encoder_blocks should have {stages} positive numbers, got {list(self.encoder_blocks)}")
        for axis, size in enumerate(self.patch_size):
            divisor = 1
            for stride in self.strides:
                divisor *= stride[axis]
            if size % divisor:
                raise ValueError(f"patch_size[{axis}] is {size}, but the strides need a multiple of {divisor}")
        return self


class Plan(Record):
    """The normalisation of each channel, and all configurations by name.

    Attributes:
        default: Name of the configuration that is used unless another is asked for: ``3d_fullres``, or ``2d`` for 2-D
            data.
        normalization: Normalisation of each channel.
        steps, orientation, resampling: As `Preprocessing` has them. The last two are other than by default only in
            a plan that was adopted from a model of nnU-Net's.
        configurations: Configurations by name.
        made_from: Hash of the fingerprint and options that the plan was made from; empty for a plan written by hand.
            It identifies a stale plan.
        checksum: Hash of the plan as the planner made it. It identifies a plan that a person has edited.
    """

    schema_version: Literal[1] = PLAN_SCHEMA
    default: str
    normalization: tuple[ChannelNormalization, ...]
    steps: tuple[Step, ...] = DEFAULT_STEPS
    orientation: Orientation = "RAS"
    resampling: Resampling = "fixed"
    configurations: dict[str, Configuration]
    made_from: str = ""
    checksum: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.default not in self.configurations:
            raise ValueError(f"default is {self.default!r}, but configurations are {list(self.configurations)}")
        require_steps_suit(self.steps, self.normalization)
        return self

    def preprocessing(self, configuration: str) -> Preprocessing:
        """The preprocessing of images for a configuration.

        Raises:
            PlanError: If the plan has no such configuration.
        """
        if configuration not in self.configurations:
            raise PlanError(f"the plan has no configuration {configuration!r}, only {', '.join(self.configurations)}")
        chosen = self.configurations[configuration]
        return Preprocessing(
            spacing_mm=chosen.spacing_mm,
            interpolation=chosen.interpolation,
            normalization=self.normalization,
            steps=self.steps,
            orientation=self.orientation,
            resampling=self.resampling,
        )

    def signed(self, made_from: str) -> "Plan":
        """Return the plan with its checksum and the hash of its fingerprint and options."""
        plain = self.model_copy(update={"made_from": made_from, "checksum": ""})
        return plain.model_copy(update={"checksum": plain._digest()})

    @property
    def is_edited(self) -> bool:
        """Whether it differs from what the planner wrote."""
        return self.model_copy(update={"checksum": ""})._digest() != self.checksum

    def _digest(self) -> str:
        # plans that are older than these fields keep their checksum
        exclude = {name for name in ("steps", "orientation", "resampling") if is_default(self, name)}
        return hashlib.sha256(self.model_dump_json(exclude=exclude).encode()).hexdigest()[:16]


def read_plan(work: Path) -> Plan:
    """Read WORK/plan.yaml.

    Raises:
        PlanError: If it is missing or malformed; the message names each offending key.
    """
    path = work / "plan.yaml"
    if not path.is_file():
        raise PlanError(f"plan.yaml is missing in {work}: run `unetpipe preprocess DATASET --out WORK` first")
    try:
        return Plan.model_validate(read_yaml(path))
    except YamlError as error:
        raise PlanError(f"plan.yaml {error}") from error
    except ValidationError as error:
        raise PlanError(explain("plan.yaml", error)) from error


_HEAD = """\
# The plan: how images are resampled and normalised, and how the network is built.
# `unetpipe preprocess` made it from fingerprint.json by nnU-Net's rules. It is meant to be edited: an edit is kept, and
# the next `unetpipe preprocess` prepares again only what the edit changes. Delete this file to plan anew.
"""
_COMMENTS = {
    "spacing_mm": "Voxel size that images are resampled to, in mm along right, anterior, superior.",
    "interpolation": "How images are resampled along each axis: cubic, linear or nearest. Labels are linear where "
    "images are cubic.",
    "median_shape": "Median size of the images at this voxel size; for information only.",
    "patch_size": "Voxels that the network sees at once. Divisible by the product of the strides along each axis.",
    "batch_size": "Patches per training step.",
    "strides": "Stride of each stage along each axis, from the finest stage on: 2 halves an axis.",
    "kernel_sizes": "Kernel size of the convolutions of each stage along each axis.",
    "features": "Channels of each stage.",
    "encoder_blocks": "Residual blocks of each stage of the encoder; null for the plain U-Net.",
}
_CONFIGURATIONS = {
    "3d_fullres": "Full resolution.",
    "3d_lowres": "Coarser, for a patch that sees at least a quarter of the volume.",
    "2d": "Slice by slice.",
}


def plan_text(plan: Plan) -> str:
    """The plan as YAML, with a comment on everything that a person may want to change."""
    lines = [
        _HEAD,
        f"schema_version: {plan.schema_version}",
        "# made_from identifies a stale plan, checksum one that was edited. Leave both as they are.",
        f"made_from: {_flow(plan.made_from)}",
        f"checksum: {_flow(plan.checksum)}",
        "",
        "# The configuration that preprocess and train use unless another is asked for.",
        f"default: {_flow(plan.default)}",
        "",
        "# One for each channel. zscore: subtract the image's mean and divide by its standard deviation.",
        "# zscore_nonzero: the same with the voxels that are not 0. ct: clip to lower and upper, subtract mean, divide",
        "# by std, the same for all images. zscore_mask: inside of all that is not 0, with holes. minmax: to [0, 1].",
        "normalization:",
    ]
    lines += [f"  - {_flow(channel.model_dump(exclude_none=True))}" for channel in plan.normalization]
    lines += [
        "",
        "# What an image, cropped to what is not 0, goes through before it is resampled, in this order: normalize, and",
        "# any deterministic dictionary transforms of monai.transforms or of an extension, such as",
        "# {_target_: monai.transforms.MedianSmoothd, radius: 1}. What moves voxels is undone after inference.",
        f"steps:{'' if plan.steps else ' []'}",
    ]
    lines += [f"  - {step if isinstance(step, str) else json.dumps(step)}" for step in plan.steps]
    if plan.orientation != "RAS":
        lines += ["", "# Axes are those of the files, (i, j, k), and not right, anterior, superior."]
        lines += [f"orientation: {plan.orientation}"]
    if plan.resampling != "fixed":
        lines += ["", "# Thick slices of an image are resampled apart from each other, as nnU-Net does it."]
        lines += [f"resampling: {plan.resampling}"]
    lines += ["", "configurations:"]
    for name, configuration in plan.configurations.items():
        if name in _CONFIGURATIONS:
            lines.append(f"  # {_CONFIGURATIONS[name]}")
        lines.append(f"  {_flow(name)}:")
        for key, value in configuration.model_dump().items():
            lines += [f"    # {_COMMENTS[key]}", f"    {key}: {_flow(value)}"]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _flow(value: Any) -> str:
    """A value on one line, as YAML reads it back."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str):
        return f'"{value}"' if not value.replace("_", "").isalpha() else value
    if isinstance(value, float) and "e" in repr(value) and "." not in repr(value):
        return repr(value).replace("e", ".0e")  # YAML 1.1 takes 1e-05 for text
    return repr(value)
