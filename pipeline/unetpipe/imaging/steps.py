"""Preprocessing steps that a person adds: dictionary transforms of MONAI's, or of an extension.

They run on the cropped image in RAS+ order, before or after its normalisation and before it is resampled: in the file's
voxels, where a blur or a crop means the same for every configuration of a plan. An image is ``{"image": (C, ...)}``, a
`MetaTensor` whose affine is right. MONAI's classes get their `keys`, unless the definition says them.

A transform that can be inverted is taken to move voxels. It gets the label map too, as ``"label"`` with nearest
neighbours, and what the network finds goes back through its inverse. All others may change intensities alone.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Randomizable, Transform
from monai.transforms.utils import convert_applied_interp_mode
from monai.utils import SpaceKeys, TraceKeys
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.components import TARGET, Definition, arguments_of, build, find, first_line, takes, target_of
from unetpipe.errors import ComponentError, UnetpipeError
from unetpipe.imaging.geometry import Grid, Shape
from unetpipe.imaging.normalization import normalize_image
from unetpipe.imaging.preprocessing import NORMALIZE, Preprocessing, Step

IMAGE, LABEL = "image", "label"

_ALLOWED = ("monai.transforms.intensity.", "monai.transforms.spatial.", "monai.transforms.croppad.")
_INTERPOLATING = "monai.transforms.spatial."  # elsewhere `mode` is a way to pad
_TRIAL_VOXELS = 24  # along each axis of the dummy image
_TRIAL_CLASSES = 3

Applied = tuple[dict[str, Any], ...]
"""MONAI's record on a `MetaTensor` of the invertible transforms that it went through."""


@dataclass(frozen=True)
class SteppedImage:
    """An image after its steps.

    Attributes:
        values: Image, float32 (C, ...).
        grid: Grid of the voxels.
        applied: MONAI's record of the steps that moved voxels; empty where none did.
        label: The label map, float32 of the spatial shape; None where none was given.
    """

    values: Tensor
    grid: Grid
    applied: Applied
    label: Tensor | None


def run_steps(values: Tensor, grid: Grid, spec: Preprocessing, label: Tensor | None = None) -> SteppedImage:
    """Send an image, and its label map, through the steps of a preprocessing.

    Args:
        values: float32 (C, ...), the cropped image; left as it is.
        grid: Grid of the voxels, in RAS+ order.
        spec: Preprocessing of the image.
        label: Class indices of the same spatial shape.

    Raises:
        ComponentError: If a step cannot be built, fails, changes what it may not, or gives NaN or infinite values.
    """
    data: dict[str, Any] = {IMAGE: placed_tensor(values.clone(), grid)}
    if label is not None:
        data[LABEL] = placed_tensor(label[None].float(), grid)
    for step in spec.steps:
        if step == NORMALIZE:
            normalized = normalize_image(data[IMAGE].as_subclass(Tensor), spec.normalization)
            data[IMAGE] = MetaTensor(normalized).copy_meta_from(data[IMAGE])
        else:
            data = run_step(step, data)
    image = data[IMAGE]
    affine = np.eye(4)
    affine[: len(image.affine), : len(image.affine)] = image.affine.numpy()
    return SteppedImage(
        values=image.as_subclass(Tensor).cpu(),
        grid=Grid.of(image.shape[1:], affine, grid.unit),
        applied=tuple(image.applied_operations),
        label=data[LABEL][0].as_subclass(Tensor).cpu() if label is not None else None,
    )


def undo_steps(
    values: Tensor,
    steps: Sequence[Step],
    applied: Applied,
    *,
    affine: NDArray[np.float64] | None = None,
    nearest: bool = True,
) -> Tensor:
    """Take what was found in an image back to where the image was before its steps.

    Args:
        values: (N, ...) of the shape after the steps; any type.
        steps: Steps of the preprocessing.
        applied: MONAI's record of the steps on the image.
        affine: Affine of the image after the steps, 4x4, where one of them resampled it.
        nearest: Interpolate by nearest neighbours, and not as the image was interpolated.

    Returns:
        The same type, of the shape before the steps; 0 where the steps cut the image off. Integers are rounded.
    """
    placed = None if affine is None else torch.from_numpy(affine)
    moved = MetaTensor(values.as_subclass(Tensor).float(), affine=placed)
    records = deepcopy(list(applied))
    if nearest:
        records = convert_applied_interp_mode(records, mode="nearest", align_corners=None)
    # the transforms are built anew, as those that the image went through may be in use by another thread
    moved.applied_operations = [_of_anybody(record) for record in records]
    data = {IMAGE: moved}
    for step in reversed(steps):
        if step != NORMALIZE and moves_voxels(find("preprocessing", target_of(step))):
            data = make_step(step).inverse(data)
    back: Tensor = data[IMAGE].as_subclass(Tensor)
    return back.to(values.dtype) if values.dtype.is_floating_point else back.round().to(values.dtype)


def make_step(step: Step) -> Any:
    """Build one transform.

    Raises:
        ComponentError: If there is no such transform, or it is random, an array transform, or none that preprocessing
            may consist of.
    """
    name = str(target_of(step))
    _require_allowed(name, find("preprocessing", name))
    transform = build("preprocessing", step, **_given(step, (IMAGE, LABEL)))
    if not callable(transform):
        raise ComponentError(f"preprocessing step {name} is a {type(transform).__name__}, which cannot be called")
    return transform


def moves_voxels(factory: Any) -> bool:
    """Whether a step changes where voxels lie: those that can be inverted do."""
    return isinstance(factory, type) and issubclass(factory, InvertibleTransform)


def portable_definition(step: Step, keys: Sequence[str]) -> Definition:
    """A step with all of its arguments, as a MONAI config of its own needs it.

    Args:
        step: Registered name or definition.
        keys: Key of the image, then the keys of what moves along with it, by nearest neighbours.
    """
    given = _given(step, keys)
    own = {} if isinstance(step, str) else arguments_of(step)
    return {TARGET: target_of(step), **given, **own}


def require_steps(spec: Preprocessing) -> None:
    """Try the steps of a preprocessing on a dummy image, before any work.

    Raises:
        ComponentError: If a step cannot be built, is random, fails, changes the number of channels or axes, gives NaN
            or infinite values, changes the voxel size, changes the shape without being invertible, gives labels that
            are no classes, or cannot be undone.
    """
    shape: Shape = (_TRIAL_VOXELS,) * len(spec.spacing_mm)
    grid = Grid.of(shape, np.diag([*spec.spacing_mm, *[1.0] * (4 - len(shape))]))
    generator = torch.Generator().manual_seed(0)
    values = torch.rand((len(spec.normalization), *shape), generator=generator) * 1000
    label = torch.arange(_TRIAL_VOXELS).mul(_TRIAL_CLASSES).div(_TRIAL_VOXELS, rounding_mode="floor")
    label = label.view(-1, *[1] * (len(shape) - 1)).expand(shape)
    first, second = (run_steps(values, grid, spec, label) for _ in range(2))
    names = ", ".join(str(target_of(step)) for step in spec.steps if step != NORMALIZE)
    if not torch.equal(first.values, second.values):
        raise ComponentError(f"preprocessing steps {names} give other values when they run again: none may be random")
    if not math.isclose(first.grid.voxel_ml, grid.voxel_ml, rel_tol=1e-3):
        raise ComponentError(f"preprocessing steps {names} change the voxel size, which spacing_mm of the plan decides")
    assert first.label is not None
    if not set(first.label.flatten().tolist()) <= set(range(_TRIAL_CLASSES)):
        raise ComponentError(f"preprocessing steps {names} mix the classes of a label: use nearest neighbours for it")
    if first.applied:
        _require_undone(first, spec, shape, names)


def _require_undone(stepped: SteppedImage, spec: Preprocessing, shape: Shape, names: str) -> None:
    try:
        back = undo_steps(stepped.values[:1], spec.steps, stepped.applied)
    except Exception as error:  # of foreign code
        raise ComponentError(f"preprocessing steps {names} cannot be undone: {first_line(error)}") from error
    if tuple(back.shape[1:]) != shape:
        raise ComponentError(f"preprocessing steps {names} cannot be undone: {shape} becomes {tuple(back.shape[1:])}")


def run_step(step: Step, data: dict[str, Any]) -> dict[str, Any]:
    """Run one step and check its result.

    Args:
        step: Registered name or definition; not ``normalize``.
        data: The image, a `MetaTensor` (C, ...), and the label map where there is one, by their keys.

    Raises:
        ComponentError: If the step cannot be built, fails, changes what it may not, or gives NaN or infinite values.
    """
    name, before = str(target_of(step)), data[IMAGE]
    transform = make_step(step)
    try:
        data = {**data, **transform(data)}
        image = data[IMAGE]
        if not isinstance(image, MetaTensor):
            image = data[IMAGE] = MetaTensor(torch.as_tensor(image)).copy_meta_from(before)
    except UnetpipeError:
        raise
    except Exception as error:  # of foreign code
        raise ComponentError(f"preprocessing step {name} fails: {first_line(error)}") from error
    if image.ndim != before.ndim or len(image) != len(before):
        raise ComponentError(
            f"preprocessing step {name} may change neither channels nor axes: {_shape(before)} becomes {_shape(image)}"
        )
    if image.shape != before.shape and not isinstance(transform, InvertibleTransform):
        raise ComponentError(
            f"preprocessing step {name} changes the shape and cannot be inverted: {_shape(before)} to {_shape(image)}"
        )
    if LABEL in data and data[LABEL].shape[1:] != image.shape[1:]:
        raise ComponentError(f"preprocessing step {name} gives the label another shape than the image")
    if not bool(image.isfinite().all()):
        raise ComponentError(f"preprocessing step {name} gives values that are NaN or infinite")
    data[IMAGE] = image.float()
    return data


def _require_allowed(name: str, factory: Any) -> None:
    """See that a class is one of MONAI's deterministic dictionary transforms, or comes from an extension."""
    if not (isinstance(factory, type) and issubclass(factory, Transform)):
        return
    if issubclass(factory, Randomizable):
        raise ComponentError(f"preprocessing step {name} is random: it belongs to --augmentation-steps")
    if factory.__module__.startswith("monai."):
        if not factory.__module__.startswith(_ALLOWED):
            known = ", ".join(module.removesuffix(".") for module in _ALLOWED)
            raise ComponentError(f"preprocessing step {name} is none of the transforms in {known}")
        if not issubclass(factory, MapTransform):
            raise ComponentError(f"preprocessing step {name} is an array transform: name its dictionary form, {name}d")


def _given(step: Step, keys: Sequence[str]) -> Definition:
    """The arguments that a transform gets besides those of its definition."""
    factory = find("preprocessing", target_of(step))
    if not (isinstance(factory, type) and issubclass(factory, MapTransform)):
        return {}
    given: Definition = {"keys": [keys[0]]}
    if moves_voxels(factory):
        given = {"keys": list(keys), "allow_missing_keys": True}
        if factory.__module__.startswith(_INTERPOLATING):
            given["mode"] = ["bilinear"] + ["nearest"] * (len(keys) - 1)
    return {name: value for name, value in given.items() if name in takes(factory)}


def placed_tensor(values: Tensor, grid: Grid) -> MetaTensor:
    """The voxels (C, ...) of a grid as MONAI's transforms take them."""
    return MetaTensor(values, affine=torch.from_numpy(grid.matrix), meta={"space": SpaceKeys.RAS})


def _shape(values: Tensor) -> Shape:
    return tuple(values.shape)


def _of_anybody(record: Any) -> Any:
    """A record of an applied transform that another instance of its class may undo."""
    if isinstance(record, dict):
        return {key: TraceKeys.NONE if key == TraceKeys.ID else _of_anybody(value) for key, value in record.items()}
    return record
