"""The text at the start of MetaImage and NRRD files, for what ITK does not pass on or does not check."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unetpipe.errors import ImageFileError
from unetpipe.imaging.geometry import Unit

_UNITS: dict[str, Unit] = {
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), "m"),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), "cm"),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), "mm"),
    **dict.fromkeys(("um", "µm".casefold(), "micron", "microns"), "um"),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), "um"),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), "nm"),
}
"""Unit by its name without capitals, in which the micro sign is a Greek letter."""
_UNSTATED = ("", "?", "???", "pixel", "pixels", "voxel", "voxels")
_DEFLATE_LIMIT = 1100  # no more bytes than this come out of one
_WIDEST = 8  # bytes of a number that a text spends one character on
_LONGEST = 1 << 24  # bytes of a header; Slicer describes hundreds of segments in less
_LONGEST_LINE = 400  # characters of a field that ITK parses
_LONGEST_NAME = 250  # characters of a name in MetaImage
_OF_EACH_AXIS = ("DimSize", "Offset", "Position", "Origin", "TransformMatrix", "ElementSpacing", "ElementSize")
_PARSED = (
    *("ObjectType", "ObjectSubType", "NDims", "Comment", "Name", "Modality", "AnatomicalOrientation", "Color"),
    *("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData", "CompressedDataSize"),
    *("CenterOfRotation", "DistanceUnits", "ElementType", "ElementNumberOfChannels", "HeaderSize", "ElementDataFile"),
    *_OF_EACH_AXIS,
)
_SPATIAL_KINDS = ("domain", "space", "none", "???")  # of NRRD's axes; others are colours, components or time
_LINE = re.compile(r"([^:=]*?)\s*(:=|:|=|$)\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class TextHeader:
    """Fields of a header.

    Attributes:
        fields: Value by name, of MetaImage's ``Name = value`` and, in lower case, of NRRD's ``name: value``.
        pairs: NRRD's own key and value pairs, ``key:=value``.
        end: Byte after the header.
    """

    fields: Mapping[str, str]
    pairs: Mapping[str, str]
    end: int

    def data_file(self, path: Path) -> Path | None:
        """The one file that holds the voxels of the header at `path`; None where they are spread over several."""
        name = (
            self.fields.get("ElementDataFile") or self.fields.get("data file") or self.fields.get("datafile", "LOCAL")
        )
        if name.upper() == "LOCAL":
            return path
        return None if name.upper().startswith("LIST") or "%" in name else path.parent / name

    def data_files(self, path: Path) -> list[Path]:
        """Every file that may hold voxels: the one, or where they are spread over several, all of the folder."""
        data = self.data_file(path)
        return [data] if data is not None else sorted(file for file in path.parent.iterdir() if file.is_file())

    @property
    def compressed(self) -> bool:
        """Whether the voxels are compressed by deflate."""
        gzip = self.fields.get("encoding", "").lower() in ("gzip", "gz")
        return gzip or self.fields.get("CompressedData", "").lower() == "true"

    def units(self, axes: int) -> list[Unit]:
        """The unit of length along each spatial axis; mm where none is stated.

        Raises:
            ImageFileError: If a unit is stated that is none of length.
        """
        stated = [self.fields["DistanceUnits"]] * axes if "DistanceUnits" in self.fields else []
        stated = stated or _quoted(self.fields.get("space units", "")) or self._units_of_axes()
        names = [name.strip() for name in stated[:axes]]
        if unknown := [name for name in names if name.casefold() not in (*_UNSTATED, *_UNITS)]:
            raise ImageFileError(f"its unit of length {unknown[0]!r} is not known")
        return [_UNITS.get(name.casefold(), "mm") for name in names] + ["mm"] * (axes - len(names))

    def _units_of_axes(self) -> list[str]:
        """NRRD's `units`, which holds one for every axis, less those of axes that are no space, such as colours."""
        units, kinds = _quoted(self.fields.get("units", "")), self.fields.get("kinds", "").lower().split()
        if len(kinds) != len(units):
            return units
        return [unit for unit, kind in zip(units, kinds, strict=True) if kind in _SPATIAL_KINDS]

    def refuse_less_than(self, size: int, path: Path) -> None:
        """See that the voxels can be in the file, before ITK takes memory for them.

        Args:
            size: Size of the voxels that the header announces, in bytes.
            path: Path of the header.

        Raises:
            ImageFileError: If the file is too short.
        """
        sizes = [file.stat().st_size for file in self.data_files(path) if file.is_file()]
        there = sum(sizes) - (self.end if self.data_file(path) == path else 0)
        factor = _WIDEST if self.fields.get("encoding", "raw").lower() in ("ascii", "text", "txt", "hex") else 1
        if size > there * (_DEFLATE_LIMIT if self.compressed else factor):
            raise ImageFileError(f"truncated, or its data file is missing: {there} bytes cannot hold {size} of voxels")


def _quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]*)"', text)


def read_text_header(path: Path) -> TextHeader:
    """Read the fields up to where the voxels begin or are named.

    Raises:
        ImageFileError: If it is neither MetaImage nor NRRD, by what its suffix says.
    """
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    is_nrrd, ended = path.suffix.lower() in (".nrrd", ".nhdr"), False
    with path.open("rb") as file:
        ended = is_nrrd and not file.readline().startswith(b"NRRD000")
        while not ended and file.tell() < _LONGEST and (raw := file.readline(_LONGEST)):
            name, mark, value = _LINE.fullmatch(_decoded(raw).rstrip("\r\n")).groups()  # type: ignore[union-attr]  # it matches any line
            _refuse_long(raw, name, mark, is_nrrd=is_nrrd)
            if mark == ":=":
                pairs[name] = value
            elif mark:
                fields[name.lower() if is_nrrd else name] = value
            ended = not (name or mark) if is_nrrd else name == "ElementDataFile"
        end = file.tell()
    if not fields or not (is_nrrd or (ended and _is_complete(fields))):
        raise ImageFileError(f"not a readable {path.suffix.lower()} header")
    return TextHeader(fields, pairs, end)


def _decoded(line: bytes) -> str:
    """A line as text, in UTF-8 or, where it is none, in Latin-1, as older programs write the micro sign."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _refuse_long(line: bytes, name: str, mark: str, *, is_nrrd: bool) -> None:
    """Refuse lines that ITK cannot take: they overrun the buffer of NRRD's messages, or end the reading of MetaImage.

    Raises:
        ImageFileError: If the line of a field that ITK parses is longer than any such line need be.
    """
    free = mark == ":=" or line.startswith((b"#", b"content:")) if is_nrrd else mark and name not in _PARSED
    if (not free and len(line) > _LONGEST_LINE) or (not is_nrrd and len(name) > _LONGEST_NAME):
        raise ImageFileError(f"bad header: a line has {len(line)} characters, expected at most {_LONGEST_LINE}")


def _is_complete(fields: Mapping[str, str]) -> bool:
    """Whether MetaIO has what it needs when it needs it; else it fills standard error with lines of its own."""
    axes, sizes, names = fields.get("NDims", ""), fields.get("DimSize", "").split(), list(fields)
    if not axes.isdecimal() or len(sizes) != int(axes) or "ElementType" not in fields:
        return False
    before = all(names.index("NDims") < names.index(name) for name in _OF_EACH_AXIS if name in fields)
    return before and all(size.isdecimal() for size in sizes)
