"""How a person says which volume of a DICOM source is meant, and what may be done to it. Nothing here needs pydicom."""

import re
from typing import Annotated, NamedTuple

from pydantic import Field, field_validator

from unetpipe.documents import Record

_CONDITION = re.compile(r"\s*([A-Za-z0-9]+)\s*([=~])\s*(.*?)\s*")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


class Condition(NamedTuple):
    """What a rule asks of one attribute.

    Attributes:
        keyword: DICOM's, such as ``SeriesDescription``.
        exact: Whether the value must equal `wanted`; else the regular expression `wanted` must be found in it.
        wanted: In any case of letters.
    """

    keyword: str
    exact: bool
    wanted: str


class DicomOptions(Record):
    """Choice of a volume.

    Attributes:
        series: Its number in the list of `unetpipe info PATH`, its UID, or a rule such as
            ``Modality=MR,SeriesDescription~t1``; None for the only one that holds a volume.
        phase: Number of the volume in its series, where there are several.
        fix_geometry: Interpolate missing slices, make uneven spacing even and undo a gantry's tilt, instead of
            refusing them.
    """

    series: str | None = None
    phase: Annotated[int, Field(ge=1)] | None = None
    fix_geometry: bool = False

    @field_validator("series")
    @classmethod
    def _can_be_read(cls, series: str | None) -> str | None:
        if series is not None:
            parse_series(series)
        return series


def parse_series(choice: str) -> int | str | tuple[Condition, ...]:
    """A choice of a series as its number, its UID, or the conditions of a rule.

    A comma belongs to a value unless a keyword and a relation follow it.

    Raises:
        ValueError: If it is none of these, or a pattern is no regular expression.
    """
    if choice.isdigit():
        return int(choice)
    if _UID.fullmatch(choice):
        return choice
    return tuple(map(_condition, re.split(r",(?=\s*[A-Za-z0-9]+\s*[=~])", choice)))


def _condition(written: str) -> Condition:
    match = _CONDITION.fullmatch(written)
    if match is None:
        example = "Modality=MR,SeriesDescription~t1"
        raise ValueError(f"expected the number of a series, a UID, or a rule such as {example}, got {written!r}")
    keyword, relation, wanted = match.groups()
    if relation == "~":
        try:
            re.compile(wanted)
        except re.error as error:
            raise ValueError(f"{wanted!r} is no regular expression: {error}") from error
    return Condition(keyword, relation == "=", wanted)
