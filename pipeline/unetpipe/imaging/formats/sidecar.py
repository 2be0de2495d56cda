"""Voxel sizes that nnU-Net states in a JSON file beside a stack of slices, whose own format has no place for them."""

import json
import re
from pathlib import Path

_CHANNEL = re.compile(r"_\d{4}$")


def lengths_file(path: Path) -> Path | None:
    """The file beside a TIFF file that may state its voxel size: CASE.json of CASE.tif and CASE_0000.tif."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    beside = path.with_name(_CHANNEL.sub("", path.stem) + ".json")
    return beside if beside.is_file() else None


def stated_spacing(path: Path) -> list[str] | None:
    """Voxel size along columns, rows and slices, as the file beside an image states it; None where none does.

    Source:
        https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md: ``{"spacing": [z, y, x]}``.
    """
    beside = lengths_file(path)
    try:
        content = json.loads(beside.read_bytes()) if beside else None
    except (OSError, ValueError, RecursionError):
        return None
    spacing = content.get("spacing") if isinstance(content, dict) else None
    return [str(size) for size in reversed(spacing)] if isinstance(spacing, list) and len(spacing) == 3 else None
