"""The list of a DICOM source, for a person who chooses: one row per volume of each series."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unetpipe.errors import GeometryError, counted
from unetpipe.imaging.dicom.attributes import text, without_validation
from unetpipe.imaging.dicom.phases import SeriesPart
from unetpipe.imaging.dicom.slices import Slice, stack
from unetpipe.imaging.dicom.study import Contents, Series, read_contents
from unetpipe.imaging.dicom.volume_row import VolumeRow

_PLANES = ("sagittal", "coronal", "axial")  # by the axis of LPS that is closest to the normal
_OBLIQUE = 0.98  # cosine of the normal with that axis: about eleven degrees


@without_validation
def list_volumes(path: Path) -> tuple[Contents, tuple[VolumeRow, ...]]:
    """Read the headers of a source, and describe each volume in it.

    Raises:
        ImageFileError: If a zip is damaged or a file cannot be opened.
    """
    contents = read_contents(path)
    studies = list(dict.fromkeys(series.study for series in contents.series))
    rows = (row for series in contents.series for row in _rows(series, studies.index(series.study) + 1))
    return contents, tuple(rows)


def _rows(series: Series, study: int) -> Iterator[VolumeRow]:
    first = series.images[0].data
    for number, part in enumerate(series.volumes or [None], start=1):
        size, spacing, plane, problem = _geometry(part)
        yield VolumeRow(
            study=study,
            series=series.number,
            phase=str(number) if len(series.volumes) > 1 else "",
            modality=series.modality,
            description=text(first, "SeriesDescription"),
            size=size or f"{counted(len(series.images), 'image')} of {series.images[0].size}",
            spacing_mm=spacing,
            plane=plane,
            differs_by=", ".join(f"{name} {_said(value)}" for name, value in (part.values if part else {}).items()),
            problem="; ".join(filter(None, [problem, str(series.problem or "")])),
        )


def _geometry(part: SeriesPart | None) -> tuple[str, str, str, str]:
    """Size, spacing, plane and what is wrong."""
    if part is None:
        return "", "", "", ""
    place = part.frames[0].place
    size = f"{place.shape[1]} x {place.shape[0]} x {len(part.frames)}"
    try:
        spacing = stack([frame.place for frame in part.frames]).grid().spacing_mm
    except GeometryError as error:
        return size, "", _plane(place), str(error)
    return size, " x ".join(f"{mm:.4g}" for mm in spacing), _plane(place), ""


def _plane(place: Slice) -> str:
    cosines = np.abs(place.normal)
    name = _PLANES[int(cosines.argmax())]
    return name if cosines.max() > _OBLIQUE else f"oblique {name}"


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return "(" + " ".join(f"{one:g}" for one in value) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value or "none")
