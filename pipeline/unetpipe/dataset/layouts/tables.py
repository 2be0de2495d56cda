"""A table or JSON list of cases, for data that stays where it is. Paths are relative to the file.

A table (``.csv``, ``.tsv``) has the columns ``image`` (or ``image_0``, ``image_1``, ...: one per channel) and
``label``, and may have ``id``, ``patient``, ``fold``, ``modality`` (or ``modality_0``, ...), ``series`` (or
``series_0``, ...) and ``phase``, which choose the volume in a DICOM source. Further columns are left to
`evaluate --by`, unless they look like one of these with a mistake in it. A JSON list holds objects with the same keys,
where ``image`` or ``images`` is one path or a list of them. The list may be inside an object, as ``cases``, beside
``name``, ``channels``, ``modality``, ``labels``, ``regions_class_order`` and ``segment_names``.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from unetpipe.dataset.layouts.declarations import (
    as_names,
    as_text,
    declare_channels,
    declare_classes,
    declare_modalities,
    declare_segment_names,
)
from unetpipe.dataset.layouts.entries import list_entries, read_entry
from unetpipe.dataset.layouts.listing import Listing
from unetpipe.dataset.layouts.reading import note_encoding, read_table
from unetpipe.errors import DATASET, DatasetError

_ALIKE = 0.8  # of the letters of a column's name, for which a mistake in another one is more likely
_COLUMNS = {"id", "image", "label", "patient", "fold", "modality", "series", "phase"}
_KEYS = _COLUMNS | {"images"}
_TOP_KEYS = {"cases", "name", "channels", "modality", "labels", "regions_class_order", "segment_names"}


def list_table(path: Path) -> Listing:
    """List the cases of a table.

    Raises:
        DatasetError: If the columns are not those above.
    """
    columns, rows = read_table(path)
    images, modalities, series = (_numbered(name, columns) for name in ("image", "modality", "series"))
    unknown = set(columns) - _COLUMNS - {*images, *modalities, *series}
    listing = Listing(name=path.stem)
    note_encoding(path, listing)
    expected = (
        "columns should be image (or image_0, image_1, ...), label, and perhaps id, patient, fold, modality, series, "
        "phase"
    )
    message = f"{path.name}: {expected}; got {', '.join(columns) or 'none'}"
    alike = {column: get_close_matches(column, sorted(_COLUMNS), cutoff=_ALIKE) for column in sorted(unknown)}
    mistaken = [f"; is {column} meant as {names[0]}?" for column, names in alike.items() if names]
    if mistaken or ("image" in columns) == bool(images):
        raise DatasetError.of("bad_table", message + "".join(mistaken))
    entries = []
    for row in rows:
        where = f"{path.name}, line {row.line}"
        lacking = [column for column in images if column not in row.cells]
        if lacking:
            case = row.cells.get("id", DATASET)
            listing.fault("missing_image", f"{where}: {', '.join(lacking)} is empty", case=case)
            continue
        raw: dict[str, Any] = dict(row.cells)
        raw |= {"images": [row.cells[column] for column in images]} if images else {}
        for name, cells in (("modality", modalities), ("series", series)):
            given = [row.cells.get(column) for column in cells]
            raw |= {name: given} if any(given) else {}
        entry = read_entry(raw, where, path.parent, listing)
        if entry is not None:
            entries.append(entry)
    list_entries(entries, listing)
    if unknown:
        listing.fault("unused_columns", f"{path.name}: not read: {', '.join(sorted(unknown))}", warning=True)
    if "label" not in columns:
        listing.training_fault("bad_table", message)
    return listing


def list_json(path: Path, content: Any) -> Listing:
    """List the cases of a parsed JSON file.

    Raises:
        DatasetError: If it has not the form above.
    """
    declared: Mapping[str, Any] = content if isinstance(content, dict) else {"cases": content}
    raws = declared.get("cases")
    unknown = sorted(declared.keys() - _TOP_KEYS)
    if not isinstance(raws, list) or unknown:
        raise DatasetError.of(
            "bad_table",
            f"{path.name}: should be a list of cases, or an object with cases and perhaps name, channels, modality, "
            f"labels, regions_class_order, segment_names; got {', '.join(unknown) or 'no list of cases'}",
        )
    listing = Listing(name=as_text(declared.get("name")) or path.stem)
    note_encoding(path, listing)
    if declared.get("channels") is not None:
        declare_channels(declared["channels"], f"{path.name}: 'channels'", listing)
    if declared.get("labels") is not None:
        declare_classes(declared["labels"], declared.get("regions_class_order"), f"{path.name}: 'labels'", listing)
    if declared.get("segment_names") is not None:
        declare_segment_names(declared["segment_names"], f"{path.name}: 'segment_names'", listing)
    if declared.get("modality") is not None:
        declare_modalities(as_names(declared["modality"]) or (), f"{path.name}: 'modality'", listing)
    entries = []
    for number, raw in enumerate(raws):
        where = f"{path.name}: cases[{number}]"
        if isinstance(raw, dict) and raw.keys() - _KEYS:
            unknown = sorted(raw.keys() - _KEYS)
            listing.fault(
                "bad_table", f"{where}: keys should be among {', '.join(sorted(_KEYS))}, got {', '.join(unknown)}"
            )
        elif (entry := read_entry(raw, where, path.parent, listing)) is not None:
            entries.append(entry)
    list_entries(entries, listing)
    return listing


def _numbered(name: str, columns: Sequence[str]) -> list[str]:
    """Columns such as ``image_0``, ``image_1`` or ``image0``, by their numbers."""
    found = {column: int(match[1]) for column in columns if (match := re.fullmatch(rf"{name}_?(\d+)", column))}
    return sorted(found, key=found.__getitem__)
