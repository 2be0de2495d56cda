"""The size of a TIFF file's voxels, where OME or ImageJ states it, or nnU-Net in a file beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from tifffile import TiffFile

from unetpipe.imaging.formats.sidecar import stated_spacing
from unetpipe.imaging.geometry import MM_PER_UNIT, Unit

UNIT_NAMES: dict[Unit, str] = {"m": "m", "cm": "cm", "mm": "mm", "um": "µm", "nm": "nm"}
"""Symbols of the units, as OME writes them."""
_UNITS: dict[str, Unit] = {name: unit for unit, name in UNIT_NAMES.items()} | {
    "um": "um",
    "μm": "um",  # the Greek letter
    "micron": "um",
    "microns": "um",
    "micrometer": "um",
    "nanometer": "nm",
    "millimeter": "mm",
    "meter": "m",
}
_NOT_LENGTHS = ("", "pixel", "pixels", "reference frame")
_INCH_MM = 25.4


@dataclass(frozen=True)
class Lengths:
    """The voxel size that a file states.

    Attributes:
        spacing_mm: Voxel size along columns, rows and slices; 1 where nothing is stated.
        unit: Unit in which the size is stated, ``voxel`` where none is stated.
        notes: Statements of the file that cannot be used.
    """

    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unit: Unit = "voxel"
    notes: tuple[str, ...] = ()


def read_lengths(file: TiffFile, *, slices: bool) -> Lengths:
    """Read the size of a voxel, as far as it is stated in full.

    Args:
        file: Open TIFF file.
        slices: Whether it is a stack, so that the distance of its slices is needed too.
    """
    if file.is_ome and file.ome_metadata:
        stated = _of_ome(file.ome_metadata)
    elif file.is_imagej:
        stated = _of_imagej(file)
    else:
        stated = [("", "")] * 3
    needed = stated[: 3 if slices else 2]
    if {unit for _, unit in needed} <= set(_NOT_LENGTHS):
        beside = stated_spacing(Path(file.filehandle.path)) if slices else None
        if beside is None:
            return Lengths()
        needed = [(size, "mm") for size in beside]
    sizes = [_mm(size, unit) for size, unit in needed]
    if not all(np.isfinite(size) and size > 0 for size in sizes):
        text = ", ".join(f"{size} {unit}".strip() for size, unit in needed)
        return Lengths(notes=(f"the size of a voxel is stated as {text}, which is no length; it counts as 1 mm",))
    unit = _UNITS.get(needed[0][1], "mm")
    return Lengths((sizes[0], sizes[1], sizes[2] if slices else 1.0), unit)


def _of_ome(xml: str) -> list[tuple[str, str]]:
    """Size and unit along x, y and z; no size where one is not stated."""
    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    found = {} if pixels is None else pixels.attrib
    if not any(f"PhysicalSize{axis}" in found for axis in "XYZ"):
        return [("", "")] * 3
    return [
        (found.get(f"PhysicalSize{axis}", "not stated"), found.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XYZ"
    ]


def _of_imagej(file: TiffFile) -> list[tuple[str, str]]:
    """The same; ImageJ stores pixels per unit as the resolution.

    It leaves out a slice distance of 1, and units of rows and slices that are that of columns. The sign of a distance
    is no part of it.
    """
    metadata: dict[str, Any] = file.imagej_metadata or {}
    stated = (metadata.get(key, metadata.get("unit", "")) for key in ("unit", "yunit", "zunit"))
    units = [str(unit).replace("\\u00B5", "µ") for unit in stated]
    tags = file.pages.first.tags
    sizes = []
    for name in ("XResolution", "YResolution"):
        pixels, length = tags.valueof(name, default=(0, 1))
        sizes.append(str(length / pixels) if pixels else "not stated")
    return list(zip((*sizes, str(metadata.get("spacing", 1.0)).lstrip("-")), units, strict=True))


def _mm(size: str, unit: str) -> float:
    """NaN for what is no number, and for a unit that is none of length."""
    factor = _INCH_MM if unit in ("inch", "in") else MM_PER_UNIT[_UNITS[unit]] if unit in _UNITS else np.nan
    try:
        return float(size) * factor
    except ValueError:
        return np.nan
