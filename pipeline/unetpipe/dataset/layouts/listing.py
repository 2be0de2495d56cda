"""What a reader of one layout finds: cases, and faults in how the folder is put together."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unetpipe.dataset.label_scheme import LabelClass, Region
from unetpipe.dataset.manifest import Case
from unetpipe.errors import DatasetError, Fault
from unetpipe.imaging.files import is_image, strip_suffix

CHANNEL_SUFFIX = re.compile(r"^(?P<id>.+)_(?P<channel>\d{4})$")
"""nnU-Net's way to say that a file holds one channel: ``case_0001``."""


@dataclass
class Listing:
    """A dataset as its layout declares it.

    Attributes:
        channels: None where the layout does not name them.
        modalities: DICOM modality of each channel as `modality_code` gives it (``CT``, ``MR``, ...), None for a channel
            whose modality is not declared; None where the layout declares no modality at all.
        labels: None where the layout does not name them: they are what label files hold.
        regions: Sets of label values, where the layout asks for them.
    """

    name: str
    channels: tuple[str, ...] | None = None
    modalities: tuple[str | None, ...] | None = None
    labels: tuple[LabelClass, ...] | None = None
    regions: tuple[Region, ...] = ()
    ignore_value: int | None = None
    cases: list[Case] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, kind: str, message: str, *, case: str = "dataset", warning: bool = False) -> None:
        """Note something wrong and go on."""
        self.faults.append(Fault(case=case, kind=kind, message=message, severity="warning" if warning else "error"))


def refuse(kind: str, message: str) -> DatasetError:
    """The error for a dataset that cannot even be listed."""
    return DatasetError([Fault(case="dataset", kind=kind, message=message)])


def read_json(path: Path) -> Any:
    """Parse a JSON file of the dataset.

    Raises:
        DatasetError: If it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise refuse("bad_json", f"{path.name} cannot be read as JSON: {error}") from error


def images_in(folder: Path) -> dict[str, list[Path]]:
    """Images of a folder by name without suffix; hidden files, macOS's ``._`` files among them, are no images."""
    found: dict[str, list[Path]] = {}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if not path.name.startswith(".") and is_image(path):
                found.setdefault(strip_suffix(path.name), []).append(path)
    return found


def classes_by_name(names: Mapping[str, Any], listing: Listing, order: Any = None) -> None:
    """Take nnU-Net's ``{name: value}``, or ``{name: [value, ...]}`` for regions; one called ``ignore`` is no class.

    Args:
        names: Values need not be consecutive.
        listing: Gets classes and regions.
        order: nnU-Net's ``regions_class_order``: the value written for each region.
    """
    taken: dict[str, tuple[int, ...]] = {}
    for name, value in names.items():
        values = value if isinstance(value, list | tuple) else [value]
        if not values or not all(_is_integer(one) for one in values):
            listing.fault(
                "bad_labels", f"label {name!r} should have an integer value, or a list of them, got {value!r}"
            )
        elif name == "ignore":
            listing.ignore_value = int(values[0])
        else:
            taken[name] = tuple(int(one) for one in values)
    if all(len(values) == 1 for values in taken.values()):
        set_classes([LabelClass(name=name, value=value) for name, (value,) in taken.items()], listing)
    else:
        _set_regions({name: values for name, values in taken.items() if set(values) != {0}}, order, listing)


def _set_regions(regions: Mapping[str, tuple[int, ...]], order: Any, listing: Listing) -> None:
    """Make every value that occurs a class, and check that what is written for each region says which it is."""
    alone = {values[0]: name for name, values in regions.items() if len(values) == 1}
    found = sorted({value for values in regions.values() for value in values})
    set_classes([LabelClass(name=alone.get(value, f"value {value}"), value=value) for value in found], listing)
    expected = f"'regions_class_order' should have {len(regions)} different values of those in regions"
    if len(regions) < 2:
        listing.fault("regions", f"a single region, {', '.join(regions)}: give its values one label value instead")
    elif 0 in found:
        listing.fault("regions", "a region contains 0, the background")
    elif not isinstance(order, list | tuple) or len(order) != len(regions):
        listing.fault("regions", f"{expected}, got {order!r}")
    elif len(set(order)) < len(order) or not set(order) <= set(found):
        listing.fault("regions", f"{expected}, {', '.join(map(str, found))}, got {order!r}")
    else:
        listing.regions = tuple(
            Region(name=name, values=values, written=int(written))
            for (name, values), written in zip(regions.items(), order, strict=True)
        )


def set_classes(classes: list[LabelClass], listing: Listing) -> None:
    """Order classes by value, background first, and see that values are distinct."""
    values = [label.value for label in classes]
    for value in sorted({value for value in values if values.count(value) > 1}):
        names = ", ".join(repr(label.name) for label in classes if label.value == value)
        listing.fault("bad_labels", f"value {value} stands for several labels: {names}")
    if 0 not in values:
        classes = [LabelClass(name="background", value=0), *classes]
    listing.labels = tuple(sorted(classes, key=lambda label: (label.value != 0, label.value)))


def _is_integer(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value.isdigit())
