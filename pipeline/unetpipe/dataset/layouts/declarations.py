"""Channels and classes as declarations write them: lists, objects either way round, numbers as text.

What cannot be understood becomes a fault that shows it. Nothing here raises.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from unetpipe.dataset.label_scheme import LabelClass, Region
from unetpipe.dataset.layouts.listing import Listing
from unetpipe.dataset.modality import modality_code

_LIMIT = 2**31
_WHOLE = re.compile(r"([+-]?\d{1,9})(?:\.0*)?")


def as_text(value: Any) -> str | None:
    """A text or number as text; None for anything else, for empty text, and for what is not Unicode."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    return text if text and not any("\ud800" <= one <= "\udfff" for one in text) else None


def as_whole(value: Any) -> int | None:
    """A whole number, also if written as text or as 1.0, as pandas does; None for anything else."""
    if isinstance(value, str) and (match := _WHOLE.fullmatch(value.strip())):
        return int(match[1])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LIMIT else None


def as_names(value: Any) -> tuple[str, ...] | None:
    """Names in order: from a text, a list, ``{"0": name, ...}`` or ``{name: 0, ...}``; None for anything else."""
    if isinstance(value, dict):
        pairs = list(value.items()) if all(as_whole(key) is not None for key in value) else _swapped(value)
        numbered = {number: name for key, name in pairs if (number := as_whole(key)) is not None}
        value = [numbered[number] for number in sorted(numbered)] if len(numbered) == len(value) else None
    names = [as_text(name) for name in (value if isinstance(value, list) else [value])]
    known = tuple(name for name in names if name is not None)
    return known if names and len(known) == len(names) else None


def declare_channels(value: Any, where: str, listing: Listing) -> None:
    """Take the channels' names; a fault at `where` if they cannot be understood."""
    listing.channels = as_names(value)
    if listing.channels is None:
        listing.fault("bad_channels", f"{where} should map '0', '1', ... to names of channels, got {_shown(value)}")
        return
    codes = tuple(modality_code(name) for name in listing.channels)
    listing.modalities = codes if any(codes) else None


def declare_modalities(names: Sequence[str], where: str, listing: Listing) -> None:
    """Take the modality of all channels, or of each; a fault at `where` if one is unknown or contradicts a channel."""
    codes = tuple(modality_code(name) for name in names)
    known = listing.modalities or ()
    if None in codes:
        expected = "modality should be a code of DICOM such as CT, MR or PT"
        listing.training_fault("bad_modality", f"{where}: {expected}, got {', '.join(names)}")
    elif len(codes) in (1, len(known)) and any(
        k not in (None, c) for k, c in zip(known, codes * len(known), strict=False)
    ):
        found = f"channels are named {', '.join(listing.channels or ())}, their modality {', '.join(names)}"
        listing.training_fault("bad_modality", f"{where}: {found}: which holds?")
    else:
        listing.modalities = codes


def declare_classes(value: Any, order: Any, where: str, listing: Listing) -> None:
    """Take classes or regions.

    Args:
        value: ``{name: value}`` (nnU-Net 2), where a list of values makes a region, and the name ``ignore`` stands for
            a value that takes no part; ``{value: name}`` (Decathlon, nnU-Net 1); or a list of names, numbered from 0.
        order: nnU-Net's ``regions_class_order``: the value written for each region.
        where: File and key at fault, such as ``dataset.json: 'labels'``.
        listing: Listing that receives classes, regions and faults.
    """
    if isinstance(value, list):
        value = {str(number): name for number, name in enumerate(value)}
    if not isinstance(value, dict) or not value:
        listing.training_fault("bad_labels", f"{where} should map names to values, got {_shown(value)}")
        return
    taken: list[tuple[str, tuple[int, ...]]] = []
    for name, values in _by_name(value, where, listing):
        numbers = [as_whole(one) for one in (values if isinstance(values, list) else [values])]
        known = tuple(number for number in numbers if number is not None)
        if as_text(name) is None or not numbers or len(known) < len(numbers):
            message = f"{where}: {_shown(name)} should have an integer value, or a list of them, got {_shown(values)}"
            listing.training_fault("bad_labels", message)
        elif name == "ignore":
            listing.ignore_value = known[0]
        else:
            taken.append((str(name), known))
    if all(len(values) == 1 for _, values in taken):
        set_classes([LabelClass(name=name, value=values[0]) for name, values in taken], listing)
    else:
        _set_regions({name: values for name, values in taken if set(values) != {0}}, order, listing)


def declare_segment_names(value: Any, where: str, listing: Listing) -> None:
    """Take names of segments by class, each a text or a list of texts; a fault at `where` for anything else."""
    names = {key: as_names(one) for key, one in value.items()} if isinstance(value, dict) else {None: None}
    if not all(isinstance(key, str) and found for key, found in names.items()):
        listing.training_fault("bad_segments", f"{where} should map classes to names of segments, got {_shown(value)}")
        return
    listing.segment_names = {str(key): found for key, found in names.items() if found}


def set_classes(classes: Sequence[LabelClass], listing: Listing) -> None:
    """Order classes by value, background first, and see that values and names are distinct."""
    values = [label.value for label in classes]
    for value in sorted({value for value in values if values.count(value) > 1}):
        names = ", ".join(repr(label.name) for label in classes if label.value == value)
        listing.training_fault("bad_labels", f"value {value} stands for several labels: {names}")
    if 0 not in values:
        classes = [LabelClass(name="background", value=0), *classes]
    called = [label.name for label in classes]
    for name in sorted({name for name in called if called.count(name) > 1}):
        numbers = ", ".join(str(label.value) for label in classes if label.name == name)
        listing.training_fault("bad_labels", f"label {name!r} stands for several values: {numbers}")
    listing.labels = tuple(sorted(classes, key=lambda label: (label.value != 0, label.value)))


def _by_name(value: Mapping[Any, Any], where: str, listing: Listing) -> list[tuple[Any, Any]]:
    """Pairs of name and value, whichever way round they are declared."""
    keys_count = all(as_whole(key) is not None for key in value)
    texts = [text for text in value.values() if isinstance(text, str)]
    if not keys_count or len(texts) < len(value):
        return list(value.items())
    if all(as_whole(text) is not None for text in texts) and any(as_whole(k) != as_whole(v) for k, v in value.items()):
        listing.training_fault("bad_labels", f"{where}: which are names and which are values? got {_shown(value)}")
        return []
    return _swapped(value)


def _swapped(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return [(second, first) for first, second in value.items()]


def _set_regions(regions: Mapping[str, tuple[int, ...]], order: Any, listing: Listing) -> None:
    """Make every value that occurs a class, and check that what is written for each region says which it is."""
    alone = {values[0]: name for name, values in regions.items() if len(values) == 1}
    found = sorted({value for values in regions.values() for value in values})
    set_classes([LabelClass(name=alone.get(value, f"value {value}"), value=value) for value in found], listing)
    numbers = [as_whole(value) for value in order] if isinstance(order, list) else []
    written = [number for number in numbers if number is not None]
    expected = f"'regions_class_order' should have {len(regions)} different values of those in regions"
    if len(regions) < 2:
        message = f"a single region, {', '.join(regions)}: give its values one label value instead"
        listing.training_fault("regions", message)
    elif 0 in found:
        listing.training_fault("regions", "a region contains 0, the background")
    elif len(written) != len(regions) or len(numbers) != len(regions):
        listing.training_fault("regions", f"{expected}, got {_shown(order)}")
    elif len(set(written)) < len(written) or not set(written) <= set(found):
        listing.training_fault("regions", f"{expected}, {', '.join(map(str, found))}, got {_shown(order)}")
    else:
        listing.regions = tuple(
            Region(name=name, values=values, written=number)
            for (name, values), number in zip(regions.items(), written, strict=True)
        )
        _check_written(listing)


def _check_written(listing: Listing) -> None:
    """Warn of voxels that would be written as a value of other regions than those that hold them.

    A prediction that is right everywhere has the last of a voxel's regions written over all others. Where the value
    written for that one belongs to other regions, the labels say something else than the network did.
    """
    for value in sorted({value for region in listing.regions for value in region.values}):
        held = [region for region in listing.regions if value in region.values]
        written = held[-1].written
        meant = [region.name for region in listing.regions if written in region.values]
        if meant != [region.name for region in held]:
            found = f"voxels of value {value} ({', '.join(region.name for region in held)})"
            predicted = f"predicted as {written} ({', '.join(meant)})"
            rule = "regions are written in their order, later ones over earlier"
            message = f"'regions_class_order': {found} would be {predicted}; {rule}"
            listing.training_fault("regions", message, warning=True)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
