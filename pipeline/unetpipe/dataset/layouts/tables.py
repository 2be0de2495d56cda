"""A CSV or JSON list of cases, for data that stays where it is.

CSV: columns ``image`` (or ``image_0``, ``image_1``, ...: one per channel), ``label``, and optionally ``id`` and
``patient``. JSON: a list of objects with the same keys, ``image`` or ``images`` holding one path or a list; or an
object with that list under ``cases`` and optionally ``name``, ``channels``, ``labels`` as {name: value}. Paths are
relative to the file.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetpipe.dataset.layouts.listing import Listing, classes_by_name, read_json, refuse
from unetpipe.dataset.manifest import Case
from unetpipe.imaging.files import strip_suffix

_KEYS = {"id", "image", "images", "label", "patient"}
_CHANNEL = re.compile(r"^image_?(\d+)$")


def list_csv(path: Path) -> Listing:
    """List the cases of a CSV file.

    Raises:
        DatasetError: If the columns are not those above.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [column.strip() for column in reader.fieldnames or []]
        reader.fieldnames = columns
        rows = [{key: value.strip() for key, value in row.items() if key and value} for row in reader]
    channels = sorted((int(match[1]), column) for column in columns if (match := _CHANNEL.match(column)))
    unknown = [column for column in columns if column not in _KEYS - {"images"} and not _CHANNEL.match(column)]
    if unknown or "label" not in columns or ("image" in columns) == bool(channels):
        expected = "image (or image_0, image_1, ...), label, id, patient"
        raise refuse("bad_table", f"{path.name}: columns should be {expected}; got {', '.join(columns) or 'none'}")
    listing = Listing(name=path.stem)
    for number, row in enumerate(rows, start=2):
        names = [column for _, column in channels] or ["image"]
        entry: dict[str, Any] = {key: row[key] for key in ("id", "label", "patient") if key in row}
        entry["images"] = [row[name] for name in names if name in row]
        _add(path, f"line {number}", entry, len(names), listing)
    return listing


def list_json(path: Path) -> Listing:
    """List the cases of a JSON file.

    Raises:
        DatasetError: If it has not the form above.
    """
    content = read_json(path)
    declared: Mapping[str, Any] = content if isinstance(content, dict) else {"cases": content}
    entries = declared.get("cases")
    unknown = sorted(declared.keys() - {"cases", "name", "channels", "labels", "regions_class_order"})
    if not isinstance(entries, list) or unknown:
        raise refuse(
            "bad_table",
            f"{path.name}: a list of cases, or an object with cases, name, channels, labels, regions_class_order"
            + (f"; got {', '.join(unknown)}" if unknown else ""),
        )
    listing = Listing(name=str(declared.get("name", path.stem)))
    if declared.get("channels"):
        listing.channels = tuple(str(name) for name in declared["channels"])
    if declared.get("labels"):
        classes_by_name(declared["labels"], listing, declared.get("regions_class_order"))
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or entry.keys() - _KEYS:
            keys = ", ".join(sorted(_KEYS))
            listing.fault("bad_table", f"{path.name}: cases[{number}] should be an object with keys among {keys}")
            continue
        images = entry.get("images", entry.get("image", []))
        one = {**entry, "images": [images] if isinstance(images, str) else images}
        _add(path, f"cases[{number}]", one, max(len(one["images"]), 1), listing)
    return listing


def _add(path: Path, where: str, entry: Mapping[str, Any], channels: int, listing: Listing) -> None:
    images = [path.parent / str(image) for image in entry["images"]]
    name = str(entry.get("id") or (strip_suffix(images[0].name) if images else where))
    if len(images) < channels or not images:
        listing.fault("missing_image", f"{path.name}, {where}: names no image for some channel", case=name)
    elif not entry.get("label"):
        listing.fault("missing_label", f"{path.name}, {where}: names no label", case=name)
    else:
        patient = entry.get("patient")
        listing.cases.append(
            Case(
                id=name,
                images=tuple(images),
                label=path.parent / str(entry["label"]),
                patient=None if patient is None else str(patient),
            )
        )
