"""The choice of a DICOM source's volume, and of what may be done to it. Nothing here needs pydicom."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, ValidationError, field_validator

from unetpipe.documents import Record, first_fault
from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.sources import is_dicom

_CONDITION = re.compile(r"\s*([A-Za-z0-9]+)\s*([=~])\s*(.*?)\s*")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


class Condition(NamedTuple):
    """The condition of a rule on one attribute.

    Attributes:
        keyword: DICOM's, such as ``SeriesDescription``.
        exact: Whether the value must equal `wanted`; else the regular expression `wanted` must be found in it.
        wanted: Value to find, in any letter case.
    """

    keyword: str
    exact: bool
    wanted: str


class DicomOptions(Record):
    """Choice of a volume.

    Attributes:
        series: Number of the series in the list of `unetpipe info PATH`, its UID, or a rule such as
            ``Modality=MR,SeriesDescription~t1``; None for the only one that holds a volume.
        phase: Number of the volume in its series, where there are several.
        fix_geometry: Interpolate missing slices, make uneven spacing even and undo a gantry's tilt, instead of
            refusing them.
        study: StudyInstanceUID of the study that the volume is of, where the source holds several.
    """

    series: str | None = None
    phase: Annotated[int, Field(ge=1)] | None = None
    fix_geometry: bool = False
    study: str | None = None

    @property
    def names_one_series(self) -> bool:
        """Whether the choice can hold for one series of one study only: a number or a UID, and no rule."""
        return self.series is not None and not isinstance(parse_series(self.series), tuple)

    @field_validator("series")
    @classmethod
    def _can_be_read(cls, series: str | None) -> str | None:
        if series is not None:
            parse_series(series)
        return series


def is_uid(text: str) -> bool:
    """Whether a text has the form of a UID."""
    return _UID.fullmatch(text) is not None


def parse_series(choice: str) -> int | str | tuple[Condition, ...]:
    """Parse the choice of a series: its number, its UID, or the conditions of a rule.

    A comma belongs to a value unless a keyword and a relation follow it.

    Raises:
        ValueError: If it is none of these, or a pattern is no regular expression.
    """
    if choice.isdigit():
        return int(choice)
    if is_uid(choice):
        return choice
    return tuple(map(_condition, re.split(r",(?=\s*[A-Za-z0-9]+\s*[=~])", choice)))


def dicom_choices(series: Sequence[str], phase: int | None, *, fix_geometry: bool) -> tuple[DicomOptions, ...]:
    """The choices on the command line, one per channel; none where the command line has none.

    Raises:
        ImageFileError: If a choice of series cannot be read.
    """
    if not series and phase is None and not fix_geometry:
        return ()
    wanted: Sequence[str | None] = series or [None]
    try:
        return tuple(DicomOptions(series=one, phase=phase, fix_geometry=fix_geometry) for one in wanted)
    except ValidationError as error:
        raise ImageFileError(f"--series: {first_fault(error)[1]}") from error


def choice_per_image(
    images: Sequence[Path], choices: Sequence[DicomOptions], own: Sequence[DicomOptions] = ()
) -> tuple[tuple[Path, ...], tuple[DicomOptions, ...]]:
    """Images with a choice for each, or none where no image is DICOM or nothing was chosen.

    Args:
        images: Files or DICOM sources.
        choices: Choices that count for all cases. One counts for all images; several read a single source once per
            choice, as channels.
        own: Choices that count for this case only, as its list has them, or its study where its source holds several.

    Raises:
        ImageFileError: If there are several images, and not as many choices, or both kinds choose a series.
    """
    paths, chosen = tuple(images), tuple(choices)
    if own:
        chosen = _combined(chosen, tuple(own))
    if not chosen or not any(map(is_dicom, paths)):
        return paths, ()
    if len(paths) == 1:
        return paths * len(chosen), chosen
    if len(chosen) not in (1, len(paths)):
        raise ImageFileError(f"--series is given {len(chosen)} times for {len(paths)} images")
    return paths, chosen if len(chosen) == len(paths) else chosen * len(paths)


def _combined(choices: tuple[DicomOptions, ...], own: tuple[DicomOptions, ...]) -> tuple[DicomOptions, ...]:
    """A case's own choices, and what was chosen for all cases where the two do not contradict each other."""
    if (study := own[0].study) is not None:
        return tuple(one.model_copy(update={"study": study}) for one in choices or own)
    if any(one.series is not None or one.phase is not None for one in choices):
        raise ImageFileError("both the list of cases and --series or --phase choose a volume: which holds?")
    fix = any(one.fix_geometry for one in choices)
    return tuple(one.model_copy(update={"fix_geometry": fix}) for one in own)


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
