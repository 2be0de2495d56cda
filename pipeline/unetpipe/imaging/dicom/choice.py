"""Which volume of a DICOM source is taken: the only one, or the one that a person chose.

Where there are several and no choice, the error lists them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import tag_for_keyword

from unetpipe.errors import GeometryError, ImageFileError, counted, listed
from unetpipe.imaging.dicom.attributes import texts, without_validation
from unetpipe.imaging.dicom.frames import Frame
from unetpipe.imaging.dicom.options import Condition, parse_series
from unetpipe.imaging.dicom.phases import SeriesPart
from unetpipe.imaging.dicom.slices import mixture_of
from unetpipe.imaging.dicom.study import Contents, Series, candidates, read_contents

_LISTED = 12


class NoImageError(ImageFileError):
    """A DICOM source holds objects of other kinds, and none that is damaged."""


@dataclass(frozen=True)
class Chosen:
    """A volume of a source.

    Attributes:
        frames: Slices of the volume, in no order.
        modality: Modality of the volume's series.
        notes: Sentences about what was left out and why this volume was taken.
    """

    frames: tuple[Frame, ...]
    modality: str
    notes: tuple[str, ...]


def keywords_of(choice: str) -> tuple[str, ...]:
    """The attributes that a choice of series asks for.

    Raises:
        ImageFileError: If DICOM has no such attribute.
    """
    parsed = parse_series(choice)
    keywords = tuple(condition.keyword for condition in parsed) if isinstance(parsed, tuple) else ()
    for keyword in keywords:
        if tag_for_keyword(keyword) is None:
            raise ImageFileError(f"--series: DICOM has no attribute {keyword}")
    return keywords


def choose(contents: Contents, choice: str | None, phase: int | None) -> Chosen:
    """Take one volume.

    Args:
        contents: Contents of the source.
        choice: Number, UID or rule; None for the only volume that there is.
        phase: Number of the volume in its series, from 1; None for the only one.

    Raises:
        ImageFileError: If there is none, there are several without a choice, or one of its files is damaged.
        GeometryError: If the series holds several volumes without a choice, or an image does not say where it lies.
    """
    series = _series(contents, choice)
    _refuse_damage(contents, series)
    if series.problem is not None:
        raise series.problem
    part = _part(series, phase)
    return Chosen(part.frames, series.modality, tuple(_notes(contents, series, part)))


@without_validation
def first_met(path: Path, choices: Sequence[str | None]) -> int | None:
    """The first of several choices that a series of a source meets; None where none is met.

    Args:
        path: Folder of any depth, zip or file.
        choices: Numbers, UIDs or rules; None is met by every series.

    Raises:
        NoImageError: If the source holds other objects only.
        ImageFileError: If no image of it can be read, or a rule names an attribute that DICOM does not have.
    """
    keywords = tuple(keyword for choice in choices if choice is not None for keyword in keywords_of(choice))
    contents = read_contents(path, keywords)
    if not contents.series and contents.damaged:
        raise ImageFileError(f"DICOM series: {contents.damaged[0].reason}")
    if not contents.series:
        raise NoImageError("DICOM series: no image in it")
    met = (
        number
        for number, choice in enumerate(choices)
        if choice is None or any(_matches(one, parse_series(choice)) for one in contents.series)
    )
    return next(met, None)


def describe(part: SeriesPart) -> str:
    """Describe a volume without identifying the patient: numbers are given, texts and times are not."""
    known = (f"{name} {value:g}" for name, value in part.values.items() if isinstance(value, float))
    return ", ".join([_slices(part), *known])


def _series(contents: Contents, choice: str | None) -> Series:
    every = contents.series
    if not every and contents.damaged:
        raise ImageFileError(contents.damaged[0].reason)
    if not every:
        raise ImageFileError(f"no image in it; left out: {contents.described_left_out or 'nothing'}")
    matching = every if choice is None else [one for one in every if _matches(one, parse_series(choice))]
    if not matching:
        raise ImageFileError(f"none of {len(every)} series is the one that was asked for ({_kinds(every)})")
    found = matching if len(matching) == 1 else candidates(matching)
    if not found:
        raise matching[0].problem or ImageFileError("no image says where it lies")
    if len(found) > 1:
        raise ImageFileError(
            f"SEVERAL_SERIES: expected one, got {len(found)} ({_kinds(found)}): choose one with --series; "
            "`unetpipe info PATH` lists them"
        )
    return found[0]


def _matches(series: Series, wanted: int | str | tuple[Condition, ...]) -> bool:
    if isinstance(wanted, int):
        return series.number == wanted
    if isinstance(wanted, str):
        return series.uid == wanted
    return all(_holds(condition, series) for condition in wanted)


def _holds(condition: Condition, series: Series) -> bool:
    values = texts(series.images[0].data, condition.keyword)
    if not condition.exact:
        return any(re.search(condition.wanted, value, re.IGNORECASE) for value in values)
    return any(_equal(value, condition.wanted) for value in (*values, "\\".join(values)))


def _equal(found: str, wanted: str) -> bool:
    try:
        return float(found) == float(wanted)
    except ValueError:
        return found.casefold() == wanted.casefold()


def _refuse_damage(contents: Contents, series: Series) -> None:
    """Refuse a damaged file of the series, or one beside it that may belong to it: slices must not vanish silently."""
    beside = {image.file.path.parent for image in series.images}
    for damaged in contents.damaged:
        if damaged.series == series.uid if damaged.series else damaged.file.path.parent in beside:
            raise ImageFileError(damaged.reason)


def _part(series: Series, phase: int | None) -> SeriesPart:
    parts = series.volumes
    if phase is not None and phase > len(parts):
        raise ImageFileError(f"--phase {phase}: the series has {counted(len(parts), 'volume')}")
    if phase is not None or len(parts) == 1:
        return parts[(phase or 1) - 1]
    volumes = listed([f"{number}: {describe(part)}" for number, part in enumerate(parts, start=1)], _LISTED, "; ")
    mixture = mixture_of([part.frames[0].place for part in parts])
    differing = ", ".join(dict.fromkeys(name for part in parts for name in part.values))
    reason = mixture or f"DUPLICATE: {len(parts)} volumes in one series; their {differing} differ"
    raise GeometryError(f"{reason} ({volumes}): choose one with --phase")


def _notes(contents: Contents, series: Series, part: SeriesPart) -> list[str]:
    notes = []
    if left_out := contents.described_left_out:
        notes.append(f"Left out of the DICOM source: {left_out}.")
    if contents.damaged:
        where = "elsewhere in the DICOM source"
        damaged = counted(len(contents.damaged), f"damaged file {where} was", f"damaged files {where} were")
        notes.append(f"{damaged} left out.")
    if others := [one for one in contents.series if one is not series]:
        notes.append(f"Series {series.number} was taken, {series.kind}; not taken: {_kinds(others)}.")
    if len(series.volumes) > 1:
        number = series.volumes.index(part) + 1
        notes.append(f"Volume {number} of {len(series.volumes)} of the series was taken: {describe(part)}.")
    notes += sorted({frame.meaning.note for frame in part.frames if frame.meaning.note})
    if any(frame.meaning.inverted for frame in part.frames):
        notes.append("Intensities are inverted: the images are MONOCHROME1, and nothing says what values mean.")
    return notes


def _kinds(series: Sequence[Series]) -> str:
    return listed([f"{one.number}: {one.kind}" for one in series], _LISTED)


def _slices(part: SeriesPart) -> str:
    return counted(len(part.frames), "slice")
