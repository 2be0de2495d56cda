"""What `plans.json` and `dataset.json` of nnU-Net say, in this package's terms.

nnU-Net's arrays run (z, y, x) as files are stored, permuted by ``transpose_forward``. Here axes stay as stored,
(i, j, k), so everything that has an entry for each axis is permuted on the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from unetpipe.bundle.archive import shown
from unetpipe.dataset.label_scheme import LabelClass, Region
from unetpipe.documents import first_fault
from unetpipe.errors import BundleError
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.preprocessing import ChannelNormalization, Interpolation, Orientation, Preprocessing

_ORIENTATIONS: dict[str, Orientation] = {
    "SimpleITKIO": "stored",
    "NibabelIO": "stored",
    "NibabelIOWithReorient": "RAS",
}
_RESAMPLING = "resample_data_or_seg_to_shape"
_DIMS = 3
_Value = TypeVar("_Value")


class _Part(BaseModel):
    """A part of nnU-Net's files, of which other keys are of no account."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Network(_Part):
    n_stages: int
    features_per_stage: tuple[int, ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    n_conv_per_stage: tuple[int, ...] | int | None = None
    n_blocks_per_stage: tuple[int, ...] | int | None = None
    n_conv_per_stage_decoder: tuple[int, ...] | int
    norm_op: str | None = None
    nonlin: str | None = None
    dropout_op: str | None = None


class _Architecture(_Part):
    network_class_name: str
    arch_kwargs: _Network


class _Configuration(_Part):
    batch_size: int
    patch_size: tuple[int, ...]
    spacing: tuple[float, ...]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    preprocessor_name: str
    resampling_fn_data: str
    resampling_fn_data_kwargs: dict[str, Any] = {}
    resampling_fn_probabilities: str
    resampling_fn_probabilities_kwargs: dict[str, Any] = {}
    architecture: _Architecture


class _Intensities(_Part):
    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class _Plans(_Part):
    image_reader_writer: str
    transpose_forward: tuple[int, ...]
    foreground_intensity_properties_per_channel: dict[str, _Intensities] = {}


@dataclass(frozen=True)
class UNetShape:
    """The network of a configuration, its axes as stored.

    Attributes:
        kind: nnU-Net's class.
        blocks: Convolutions, or residual blocks, of each stage of the encoder.
        decoder: Convolutions of each stage of the decoder, the coarsest first.
    """

    kind: Literal["PlainConvUNet", "ResidualEncoderUNet"]
    features: tuple[int, ...]
    kernel_sizes: tuple[Shape, ...]
    strides: tuple[Shape, ...]
    blocks: tuple[int, ...]
    decoder: tuple[int, ...]


@dataclass(frozen=True)
class ModelPlan:
    """A configuration of nnU-Net's plans.

    Attributes:
        axes: nnU-Net's axis of each of ours.
        preprocessing: Preprocessing of images.
        patch_size, batch_size: Window and batch.
        network: Shape of the network.
    """

    axes: Shape
    preprocessing: Preprocessing
    patch_size: Shape
    batch_size: int
    network: UNetShape


def read_model_plan(name: str, plans: dict[str, Any], configuration: str) -> ModelPlan:
    """Interpret one configuration.

    Args:
        name: Name of the folder, for messages.
        plans: Content of `plans.json`.
        configuration: Name of the configuration.

    Raises:
        BundleError: If it is missing or malformed, or has a part that has no equivalent here; names the first.
    """
    chosen = _configuration(name, plans, configuration)
    try:
        general, own = _Plans.model_validate(plans), _Configuration.model_validate(chosen)
    except ValidationError as error:
        key, reason = first_fault(error)
        raise BundleError(f"{name}: plans.json: {configuration}: {shown(key)}: {shown(reason)}") from error
    _require_known(name, general, own)
    forward = general.transpose_forward
    # our axis o is nnU-Net's untransposed axis 2 - o, which is at this place after the transposition
    axes = tuple(forward.index(_DIMS - 1 - axis) for axis in range(_DIMS))
    network = _network(name, own.architecture, axes)
    kinds: list[Interpolation] = ["cubic" for _ in range(_DIMS)]
    return ModelPlan(
        axes=axes,
        preprocessing=Preprocessing(
            spacing_mm=_permuted(own.spacing, axes),
            interpolation=tuple(kinds),
            normalization=tuple(
                _normalization(name, general, channel, scheme, masked=masked)
                for channel, (scheme, masked) in enumerate(
                    zip(own.normalization_schemes, own.use_mask_for_norm, strict=True)
                )
            ),
            orientation=_ORIENTATIONS[general.image_reader_writer],
            resampling="nnunet",
        ),
        patch_size=_permuted(own.patch_size, axes),
        batch_size=max(own.batch_size, 1),
        network=network,
    )


def read_labels(name: str, dataset: dict[str, Any]) -> tuple[tuple[LabelClass, ...], tuple[Region, ...]]:
    """Classes and regions of `dataset.json`.

    Raises:
        BundleError: If they are not as nnU-Net 2 declares them.
    """
    declared, order = dataset.get("labels"), dataset.get("regions_class_order")
    if not isinstance(declared, dict) or not declared:
        raise BundleError(f"{name}: dataset.json: labels must map names to values")
    values: dict[str, tuple[int, ...]] = {}
    for key, value in declared.items():
        numbers = value if isinstance(value, list) else [value]
        if not numbers or not all(type(number) is int for number in numbers):
            raise BundleError(f"{name}: dataset.json: labels.{shown(key)} must be an integer or a list of them")
        if key != "ignore":
            values[key] = tuple(numbers)
    if all(len(numbers) == 1 for numbers in values.values()):
        labels = sorted((numbers[0], key) for key, numbers in values.items())
        if [value for value, _ in labels] != list(range(len(labels))):
            raise BundleError(f"{name}: dataset.json: labels must be numbered from 0 on")
        return tuple(LabelClass(name=key, value=value) for value, key in labels), ()
    found = {key: numbers for key, numbers in values.items() if set(numbers) != {0}}
    if not isinstance(order, list) or len(order) != len(found) or not all(type(value) is int for value in order):
        raise BundleError(f"{name}: dataset.json: regions_class_order must have a value for each region")
    regions = tuple(
        Region(name=key, values=numbers, written=written)
        for (key, numbers), written in zip(found.items(), order, strict=True)
    )
    every = sorted({value for numbers in found.values() for value in numbers} | set(order))
    classes = [LabelClass(name="background", value=0), *(LabelClass(name=f"label {n}", value=n) for n in every if n)]
    return tuple(classes), regions


def _configuration(name: str, plans: dict[str, Any], configuration: str) -> dict[str, Any]:
    """A configuration with what it inherits from others."""
    every = plans.get("configurations")
    merged: dict[str, Any] = {}
    wanted: Any = configuration
    for _ in range(10):
        one = every.get(wanted) if isinstance(every, dict) and isinstance(wanted, str) else None
        if not isinstance(one, dict):
            raise BundleError(f"{name}: plans.json has no configuration {shown(wanted)!r}")
        merged = {**one, **merged}
        if (wanted := one.get("inherits_from")) is None:
            return merged
    raise BundleError(f"{name}: plans.json: configurations inherit from each other in a circle")


def _require_known(name: str, general: _Plans, own: _Configuration) -> None:
    reasons = {
        f"image_reader_writer {general.image_reader_writer}": general.image_reader_writer in _ORIENTATIONS,
        f"a configuration of {len(own.patch_size)} axes": len(own.patch_size) == len(own.spacing) == _DIMS,
        f"transpose_forward {general.transpose_forward}": sorted(general.transpose_forward) == list(range(_DIMS)),
        f"preprocessor_name {own.preprocessor_name}": own.preprocessor_name == "DefaultPreprocessor",
        f"resampling_fn_data {own.resampling_fn_data}": own.resampling_fn_data == _RESAMPLING,
        f"resampling_fn_probabilities {own.resampling_fn_probabilities}": own.resampling_fn_probabilities
        == _RESAMPLING,
        f"resampling_fn_data_kwargs {own.resampling_fn_data_kwargs}": _resamples(own.resampling_fn_data_kwargs, 3),
        f"resampling_fn_probabilities_kwargs {own.resampling_fn_probabilities_kwargs}": _resamples(
            own.resampling_fn_probabilities_kwargs, 1
        ),
        "as many normalization_schemes as use_mask_for_norm": len(own.normalization_schemes)
        == len(own.use_mask_for_norm),
    }
    for what, known in reasons.items():
        if not known:
            raise BundleError(f"{name}: plans.json: {shown(what)} has no equivalent here")


def _resamples(options: dict[str, Any], order: int) -> bool:
    given = {"order": order, "order_z": 0, "force_separate_z": None} | options
    return (given["order"], given["order_z"], given["force_separate_z"]) == (order, 0, None)


def _normalization(name: str, plans: _Plans, channel: int, scheme: str, *, masked: bool) -> ChannelNormalization:
    if scheme == "ZScoreNormalization":
        return ChannelNormalization(scheme="zscore_mask" if masked else "zscore")
    if scheme == "NoNormalization":
        return ChannelNormalization(scheme="none")
    if scheme == "RescaleTo01Normalization":
        return ChannelNormalization(scheme="minmax")
    if scheme == "RGBTo01Normalization":
        return ChannelNormalization(scheme="ct", mean=0.0, std=255.0, lower=0.0, upper=255.0)
    known = plans.foreground_intensity_properties_per_channel.get(str(channel))
    if scheme != "CTNormalization" or known is None:
        raise BundleError(f"{name}: plans.json: normalization scheme {shown(scheme)} has no equivalent here")
    return ChannelNormalization(
        scheme="ct", mean=known.mean, std=known.std, lower=known.percentile_00_5, upper=known.percentile_99_5
    )


def _network(name: str, architecture: _Architecture, axes: Shape) -> UNetShape:
    kind = architecture.network_class_name.rpartition(".")[2]
    own = architecture.arch_kwargs
    stages = own.n_stages
    if kind not in ("PlainConvUNet", "ResidualEncoderUNet") or own.dropout_op is not None:
        raise BundleError(f"{name}: plans.json: the network {shown(kind)}, or its dropout, has no equivalent here")
    if not str(own.norm_op).endswith("InstanceNorm3d") or not str(own.nonlin).endswith("LeakyReLU"):
        raise BundleError(f"{name}: plans.json: {shown(own.norm_op)} with {shown(own.nonlin)} has no equivalent here")
    blocks = own.n_conv_per_stage if kind == "PlainConvUNet" else own.n_blocks_per_stage
    per_stage, decoder = _each(blocks, stages), _each(own.n_conv_per_stage_decoder, stages - 1)
    sizes = (own.features_per_stage, own.kernel_sizes, own.strides, per_stage)
    rows = (*own.kernel_sizes, *own.strides)
    if stages < 2 or any(len(one) != stages for one in sizes) or any(len(row) != _DIMS for row in rows):
        raise BundleError(f"{name}: plans.json: the network's stages do not agree")
    if not all(1 <= n <= 2**14 for n in (*own.features_per_stage, *per_stage, *decoder)):
        raise BundleError(f"{name}: plans.json: the network's sizes are out of range")
    return UNetShape(
        kind="PlainConvUNet" if kind == "PlainConvUNet" else "ResidualEncoderUNet",
        features=own.features_per_stage,
        kernel_sizes=tuple(_permuted(row, axes) for row in own.kernel_sizes),
        strides=tuple(_permuted(row, axes) for row in own.strides),
        blocks=per_stage,
        decoder=decoder,
    )


def _each(count: tuple[int, ...] | int | None, stages: int) -> tuple[int, ...]:
    if count is None or isinstance(count, int):
        return (count or 0,) * stages
    return count


def _permuted(values: Sequence[_Value], axes: Shape) -> tuple[_Value, ...]:
    """Entries for nnU-Net's axes in the order of ours."""
    return tuple(values[axis] for axis in axes)
