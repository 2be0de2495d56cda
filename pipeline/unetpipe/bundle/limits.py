"""Which values a bundle's spec may hold. What lies outside would fail late, fill the memory, or be wrong silently."""

import math
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from unetpipe.bundle.archive import METADATA, shown
from unetpipe.bundle.spec import SPEC_KEY, ModelSpec, ModelTask
from unetpipe.documents import first_fault
from unetpipe.errors import BundleError, listed
from unetpipe.imaging.geometry import Shape

_SPACING_MM = (1e-7, 1e5)  # from electron microscopy to what no scanner sees
_MOST_PATCH_VOXELS = 2**26
_LARGEST_FILL = 1e6
_MOST_CLASSES = 2**12
_MOST_FOLDS = 100
_MOST_CHANNELS = 2**10
_LABEL_VALUES = (-(2**31), 2**31 - 1)  # int32, the largest type that label files are written in
_LONGEST_NAME = 200  # characters
# a separator alone may be a part of a name, such as the AMOS dataset's "prostate/uterus"
_PATH = re.compile(r"^[/\\~]|^[A-Za-z]:[/\\]|(?:^|[/\\])\.{1,2}(?:[/\\]|$)")


def parse_spec(name: str, metadata: dict[str, Any]) -> ModelSpec:
    """The spec in a bundle's metadata, its values checked.

    Args:
        name: Name of the bundle, for messages.
        metadata: Content of `configs/metadata.json`.

    Raises:
        BundleError: If it is missing, or a value is of the wrong type or out of range; names the key.
    """
    if SPEC_KEY not in metadata:
        raise BundleError(f"{name}: not made by unetpipe: {METADATA} has no key {SPEC_KEY!r}")
    try:
        spec = ModelSpec.model_validate(metadata[SPEC_KEY])
    except (ValidationError, RecursionError) as error:
        where, what = "", "nested too deeply"
        if isinstance(error, ValidationError):
            key, what = first_fault(error)
            where = f".{key}"
        raise BundleError(f"{name}: {METADATA}: {shown(SPEC_KEY + where)}: {shown(what)}") from error
    fault_found = next(_faults(spec), None)
    if fault_found:
        raise BundleError(f"{name}: {METADATA}: {SPEC_KEY}.{shown(fault_found)}")
    return spec


def require_within_limits(name: str, task: ModelTask, patch_size: Shape) -> None:
    """See that channels, classes and patch of a model are within limits.

    Args:
        name: Name of the bundle, for messages.
        task: What the model takes and gives.
        patch_size: Shape of the sliding window.

    Raises:
        BundleError: If a value is out of range; names it.
    """
    fault = next(_task_faults(task, patch_size), None)
    if fault:
        raise BundleError(f"{name}: {shown(fault)}")


def _faults(spec: ModelSpec) -> Iterator[str]:
    """Values out of range, each as ``key: what was expected and what was found``."""
    yield from _task_faults(spec, spec.patch_size)
    yield from _preprocessing_faults(spec)
    if len(spec.regions) == 1:
        yield "regions: expected several, as a single one is a class beside the background, got 1"
    if strange := set(spec.segments) - set(spec.label_scheme.names):
        yield f"segments: expected names of classes or regions, got {listed(list(map(repr, sorted(strange))), 5)}"
    if unknown := set(spec.postprocessing) - {label.name for label in spec.labels}:
        yield f"postprocessing: expected names of classes, got {listed(list(map(repr, sorted(unknown))), 5)}"
    dims = spec.spatial_dims
    if len(set(spec.mirror_axes)) < len(spec.mirror_axes) or not set(spec.mirror_axes) <= set(range(dims)):
        yield f"mirror_axes: expected each of 0 to {dims - 1} at most once, got {spec.mirror_axes}"
    folds = spec.folds
    if len(folds) > _MOST_FOLDS or len(set(folds)) < len(folds) or not all(0 <= fold < 1000 for fold in folds):
        yield f"folds: expected at most {_MOST_FOLDS} different numbers below 1000, got {len(folds)}"
    names = [part.name for part in spec.parts]
    if len(set(names)) < len(names) or len(names) > _MOST_FOLDS:
        yield f"first_stage and averaged_with: expected at most {_MOST_FOLDS} different names, got {len(names)}"
    if folds and spec.registered_network is not None:
        yield "folds: expected none, as the network is one that an extension registers"
    if spec.tracking_run is not None and not _is_name(spec.tracking_run):
        yield f"tracking_run: expected an id, got {spec.tracking_run!r}"
    domain = spec.training_domain
    if domain is not None:
        ranges = [*domain.spacing_mm, *domain.extent_mm, *(one for one in domain.intensity if one is not None)]
        for low, high in ranges:
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                yield f"training_domain: expected finite ranges, the lower end first, got {low:g} to {high:g}"
        found = (len(domain.spacing_mm), len(domain.extent_mm), len(domain.intensity))
        if found != (dims, dims, len(spec.channels)):
            expected = f"{dims} voxel sizes, {dims} extents and {len(spec.channels)} channels"
            yield f"training_domain: expected ranges of {expected}, got {', '.join(map(str, found))}"


def _preprocessing_faults(spec: ModelSpec) -> Iterator[str]:
    dims, given = spec.spatial_dims, spec.preprocessing
    low, high = _SPACING_MM
    if len(given.spacing_mm) != dims or not all(low <= mm <= high for mm in given.spacing_mm):
        yield f"preprocessing.spacing_mm: expected {dims} sizes from {low:g} to {high:g} mm, got {given.spacing_mm}"
    if len(given.interpolation) != dims:
        yield f"preprocessing.interpolation: expected {dims}, got {len(given.interpolation)}"
    sigma = spec.blending.sigma_scale
    if (sigma is not None and not 0.01 <= sigma <= 10) or not abs(spec.blending.fill) <= _LARGEST_FILL:
        yield f"blending: expected a sigma_scale from 0.01 to 10 and a finite fill, got {sigma}, {spec.blending.fill}"
    if len(given.normalization) != len(spec.channels):
        yield f"preprocessing.normalization: expected one for each channel, got {len(given.normalization)}"
    for channel in given.normalization:
        if (channel.std is not None and channel.std <= 0) or _reversed(channel.lower, channel.upper):
            got = f"{channel.std}, {channel.lower} and {channel.upper}"
            yield f"preprocessing.normalization: expected a positive std and lower <= upper, got {got}"


def _reversed(lower: float | None, upper: float | None) -> bool:
    return lower is not None and upper is not None and lower > upper


def _task_faults(spec: ModelTask, patch_size: Shape) -> Iterator[str]:
    dims = spec.spatial_dims
    if len(patch_size) != dims or min(patch_size) < 1 or math.prod(patch_size) > _MOST_PATCH_VOXELS:
        yield f"patch_size: expected {dims} sizes of at most {_MOST_PATCH_VOXELS} voxels, got {patch_size}"
    if not 1 <= len(spec.channels) <= _MOST_CHANNELS or not all(map(_is_name, spec.channels)):
        yield f"channels: expected 1 to {_MOST_CHANNELS} names, got {spec.channels}"
    values, names = [label.value for label in spec.labels], [label.name for label in spec.labels]
    low, high = _LABEL_VALUES
    if not 2 <= len(values) <= _MOST_CLASSES or len(set(values)) < len(values) or len(set(names)) < len(names):
        yield f"labels: expected 2 to {_MOST_CLASSES} classes whose names and values differ, got {len(values)}"
    written = [region.written for region in spec.regions]
    if len(written) > _MOST_CLASSES or len(set(written)) < len(written):
        yield f"regions: expected at most {_MOST_CLASSES} regions whose written values differ, got {len(written)}"
    for value in values:
        if not low <= value <= high:
            yield f"labels: expected values of 32 bits, got {value}"
    for region in spec.regions:
        if not region.values or not {*region.values, region.written} <= set(values):
            yield f"regions: {region.name!r} expected values of labels, got {region.values} written as {region.written}"
    for name in [*names, *(region.name for region in spec.regions)]:
        if not _is_name(name):
            yield f"labels: {name!r:.60} cannot be the name of a class"


def _is_name(text: str) -> bool:
    """Whether a text is one line of readable characters and no path that leads elsewhere."""
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable() and not _PATH.search(text)
