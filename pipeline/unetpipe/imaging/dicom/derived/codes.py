"""Codes that say what a segment is, in the terms of DICOM. Nothing here needs pydicom."""

import re
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from unetpipe.documents import Record

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_LONGEST_LABEL = 64  # characters of the value representation LO

Text = Annotated[str, Field(min_length=1, max_length=_LONGEST_LABEL, pattern=r"^[^\\\x00-\x1f]+$")]


class Code(Record):
    """A concept of a coding scheme.

    Attributes:
        value: Code of the concept, such as ``10200004``.
        meaning: Meaning of the code in words, such as ``Liver``.
        scheme: Coding scheme designator; ``SCT`` is SNOMED CT.
    """

    value: Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[^\\\s]+$", coerce_numbers_to_str=True)]
    meaning: Text
    scheme: Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[A-Za-z0-9_.-]+$")] = "SCT"


ANATOMICAL_STRUCTURE: Final = Code(value="123037004", meaning="Anatomical structure")
_TISSUE: Final = Code(value="85756007", meaning="Tissue")
_SIDES: Final = {
    "left": Code(value="7771000", meaning="Left"),
    "right": Code(value="24028007", meaning="Right"),
    "both": Code(value="51440002", meaning="Right and left"),
}
_UNCODED_SCHEME = "99UNETPIPE"


class SegmentCode(Record):
    """The codes and the colour of one segment.

    Attributes:
        type: What the segment shows, such as the liver or a neoplasm (SegmentedPropertyTypeCodeSequence).
        category: Kind of the type (SegmentedPropertyCategoryCodeSequence).
        region: Anatomic region in which the type was found, where the type does not say it: the liver of a neoplasm.
        laterality: Side of the region or, without one, of the type.
        colour: Recommended colour for display, as ``#rrggbb``.
    """

    type: Code
    category: Code = ANATOMICAL_STRUCTURE
    region: Code | None = None
    laterality: Literal["left", "right", "both"] | None = None
    colour: str | None = None

    @field_validator("colour")
    @classmethod
    def _is_hexadecimal(cls, colour: str | None) -> str | None:
        if colour is not None and not _COLOUR.fullmatch(colour):
            raise ValueError("expected a colour such as '#dd8265', in quotes")
        return colour

    @property
    def side(self) -> Code | None:
        """The code of the laterality."""
        return None if self.laterality is None else _SIDES[self.laterality]

    @property
    def rgb(self) -> tuple[int, int, int] | None:
        """The colour's red, green and blue, from 0 to 255."""
        if self.colour is None:
            return None
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue


class CodedSegment(Record):
    """One segment to write.

    Attributes:
        name: Label of the segment.
        values: Label values of the voxels that belong to it. Segments that share values overlap.
        code: Codes of the segment.
    """

    name: Text
    values: tuple[int, ...]
    code: SegmentCode

    @model_validator(mode="after")
    def _has_values(self) -> "CodedSegment":
        if not self.values:
            raise ValueError(f"segment {self.name!r} has no label values")
        return self


def uncoded_class(name: str, value: int) -> SegmentCode:
    """A code for a class that has none: of a private scheme, and of the category that claims least.

    Args:
        name: Name of the class, which becomes the code's meaning.
        value: Label value of the class.
    """
    return SegmentCode(
        type=Code(value=f"class-{value}", meaning=name[:_LONGEST_LABEL], scheme=_UNCODED_SCHEME), category=_TISSUE
    )
