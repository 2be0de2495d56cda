"""The preprocessing of a foreign bundle, as a chain of those of MONAI's transforms that are known to need no code."""

import math
from collections.abc import Sequence
from typing import Any

from unetpipe.bundle.foreign.definitions import ForeignComponent, transforms_of
from unetpipe.components import TARGET, Definition
from unetpipe.imaging.steps import IMAGE
from unetpipe.imaging.transform_chain import SPACING

_MODULE = "monai.transforms."
# reading, and types: the package reads images itself, channels first and as float32
_READING = {"LoadImaged", "LoadImageD", "EnsureChannelFirstd", "EnsureTyped", "ToTensord", "ToDeviced"}
INTENSITIES = {
    "ScaleIntensityd": {"minv", "maxv", "factor", "channel_wise"},
    "ScaleIntensityRanged": {"a_min", "a_max", "b_min", "b_max", "clip"},
    "ScaleIntensityRangePercentilesd": {"lower", "upper", "b_min", "b_max", "clip", "relative", "channel_wise"},
    "NormalizeIntensityd": {"subtrahend", "divisor", "nonzero", "channel_wise"},
}
SPATIAL = {
    "Orientationd": {"axcodes", "as_closest_canonical"},
    "Spacingd": {"pixdim", "diagonal", "mode", "padding_mode", "align_corners", "min_pixdim", "max_pixdim"},
    "CropForegroundd": {"margin", "allow_smaller", "k_divisible", "mode", "channel_indices"},
    "SpatialPadd": {"spatial_size", "method", "mode"},
    "DivisiblePadd": {"k", "mode", "method"},
}
_KNOWN = {**INTENSITIES, **SPATIAL}
_WITHOUT_EFFECT = ["allow_missing_keys", "meta_keys", "meta_key_postfix", "dtype", "lazy"]
_WITHOUT_EFFECT += ["start_coord_key", "end_coord_key"]
_POSITIVE = {"$lambda x: x > 0", "$lambda x: x>0", "$lambda img: img > 0"}  # what CropForegroundd does unless told
_SPACING_MM = (1e-3, 1e3)
_LARGEST_SIZE = 2**12  # voxels of an axis that is padded


def transform_chain(where: str, config: Any) -> tuple[Definition, ...]:
    """Interpret a resolved preprocessing.

    Args:
        where: Key of the config, for messages.
        config: ``Compose`` of dictionary transforms.

    Returns:
        Definitions with full class names and the key ``image``.

    Raises:
        BundleError: Naming the first transform or argument that is not understood.
    """
    key: str | None = None
    chain: list[Definition] = []
    for component in transforms_of(where, config):
        key = _key(component, key)
        if component.name in _READING:
            continue
        if component.name not in _KNOWN:
            raise component.refused(
                f"{component.name} is not among the transforms that are run: {', '.join(sorted(_KNOWN))}"
            )
        chain.append(_definition(component))
        if component.name in SPATIAL:
            _require_order(component, chain)
    return tuple(chain)


def interpolates(chain: Sequence[Definition]) -> bool:
    """Whether a chain resamples otherwise than by nearest neighbours, as its inverse then does too."""
    return any(step[TARGET] == SPACING and step["mode"] != "nearest" for step in chain)


def cuts_off(chain: Sequence[Definition]) -> bool:
    """Whether a chain leaves out voxels of the scan, which its inverse fills with 0."""
    return any(step[TARGET] == _MODULE + "CropForegroundd" for step in chain)


def _key(component: ForeignComponent, known: str | None) -> str:
    """The key of the image, which all transforms work on."""
    keys = component.take("keys")
    given = keys if isinstance(keys, list) else [keys]
    if len(given) != 1 or not isinstance(given[0], str):
        raise component.refused(f"{component.name}: expected the image as its only key, got {keys!r}")
    if known not in (None, given[0]):
        raise component.refused(f"{component.name}: works on {given[0]!r}, the transforms before it on {known!r}")
    if component.name == "CropForegroundd" and component.take("source_key") != given[0]:
        raise component.refused("CropForegroundd: source_key must be the image")
    return str(given[0])


def _definition(component: ForeignComponent) -> Definition:
    component.ignore(*_WITHOUT_EFFECT)
    if component.name == "CropForegroundd" and (code := component.unread("select_fn")) not in {None, *_POSITIVE}:
        raise component.refused(f"CropForegroundd: select_fn is an expression, which is not evaluated: {code}")
    arguments = component.rest()
    for name in arguments:
        if name not in _KNOWN[component.name]:
            raise component.refused(f"{component.name}: the argument {name} is not understood")
    definition = {TARGET: _MODULE + component.name, "keys": [IMAGE], **arguments}
    if component.name == "CropForegroundd":
        definition["source_key"] = IMAGE
    if component.name == "Spacingd":
        _require_spacing(component, arguments)
        definition["mode"] = _single(arguments.get("mode", "bilinear"))
    if component.name in ("SpatialPadd", "DivisiblePadd", "CropForegroundd"):
        sizes = [arguments.get(name) for name in ("spatial_size", "k", "margin", "k_divisible")]
        if not all(isinstance(size, int) and abs(size) <= _LARGEST_SIZE for size in _flat(sizes)):
            raise component.refused(f"{component.name}: expected sizes of at most {_LARGEST_SIZE} voxels")
    return definition


def _require_spacing(component: ForeignComponent, arguments: Definition) -> None:
    pixdim = arguments.get("pixdim")
    low, high = _SPACING_MM
    sizes = pixdim if isinstance(pixdim, list) else [pixdim]
    if not 1 <= len(sizes) <= 3 or not all(isinstance(mm, int | float) and low <= mm <= high for mm in sizes):
        raise component.refused(
            f"Spacingd: expected a pixdim of voxel sizes from {low:g} to {high:g} mm, got {pixdim!r}"
        )
    if _single(arguments.get("mode", "bilinear")) not in ("bilinear", "nearest"):
        raise component.refused(f"Spacingd: the mode {arguments['mode']!r} is not understood")
    if arguments.get("padding_mode", "border") != "border":
        raise component.refused(f"Spacingd: the padding_mode {arguments['padding_mode']!r} is not understood")
    if arguments.get("diagonal"):
        raise component.refused("Spacingd: diagonal turns the axes of oblique scans")


def _require_order(component: ForeignComponent, chain: Sequence[Definition]) -> None:
    """See that there is one ``Spacingd``, and that after it voxels are only cropped and padded."""
    if SPACING in [step[TARGET] for step in chain[:-1]] and component.name in ("Spacingd", "Orientationd"):
        raise component.refused(f"{component.name} after Spacingd is not understood")


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _flat(values: Sequence[Any]) -> list[Any]:
    """Numbers of lists and single numbers, without those that are missing."""
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [item for item in flat if item is not None and not (isinstance(item, float) and math.isnan(item))]
