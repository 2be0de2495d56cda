"""The meaning of a frame's stored values: rescale, real-world value map, palette, the sense of MONOCHROME1."""

from dataclasses import dataclass, replace

from pydicom import Dataset

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.attributes import items, number, text, value

_PALETTE = "{}PaletteColorLookupTableData"
_COLOURS = ("Red", "Green", "Blue")
_UNSPECIFIED = ("", "US")  # values of RescaleType that give no unit
_MEASURED = frozenset({"CT", "PT", "NM"})
"""Modalities whose values are measurements however they are shown."""


@dataclass(frozen=True)
class Meaning:
    """A mapping of stored values to intensities: ``slope * stored + intercept``.

    Attributes:
        slope, intercept: Coefficients of the rescale, or of the real-world value map where there is no rescale.
        units: RescaleType, or the code of the units of the real-world value map where that was taken.
        inverted: Stored values are subtracted from the highest that could be stored, before slope and intercept: low
            ones are shown white, and nothing gives them a meaning.
        looked_up: Stored values are indices of a palette of grey values, which are looked up.
        stated: Whether a rescale, a real-world value map or a modality that measures gives the values a meaning.
        note: A sentence where two sources differ.
    """

    slope: float = 1.0
    intercept: float = 0.0
    units: str = ""
    inverted: bool = False
    looked_up: bool = False
    stated: bool = True
    note: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether slope and intercept change nothing."""
        return (self.slope, self.intercept) == (1.0, 0.0)

    @property
    def is_shift(self) -> bool:
        """Whether only a whole number of at most 15 bits is added."""
        return self.slope == 1.0 and self.intercept.is_integer() and abs(self.intercept) < 2**15

    def scaled(self, factor: float) -> "Meaning":
        """Intensities multiplied by a factor."""
        return replace(self, slope=self.slope * factor, intercept=self.intercept * factor)

    def of_labels(self) -> "Meaning":
        """The same for labels, whose stored values are the classes however they are shown."""
        return replace(self, slope=1.0, intercept=0.0, inverted=False, looked_up=False)


def meaning_of(frame: Dataset, photometric: str, modality: str) -> Meaning:
    """The meaning of a frame's stored values.

    MONOCHROME1 says how values are shown. Where they mean something, because of a rescale, a real-world value map or
    a modality that measures, they are taken as they are; only where nothing gives them a meaning are they inverted.

    Args:
        frame: Attributes of the frame.
        photometric: Value of PhotometricInterpretation.
        modality: Modality of the image.

    Raises:
        ImageFileError: If a lookup table takes the place of a slope, a slope is 0, or a number cannot be read.
    """
    if value(frame, "ModalityLUTSequence") is not None:
        raise ImageFileError("a lookup table in place of a rescale slope is not supported")
    slope, units = number(frame, "RescaleSlope"), text(frame, "RescaleType")
    rescale = (1.0 if slope is None else slope, number(frame, "RescaleIntercept") or 0.0)
    real_world = _real_world(frame)
    rescales = rescale != (1.0, 0.0) or units not in _UNSPECIFIED
    note = ""
    if real_world is not None and not rescales:
        rescale, units = real_world
    elif real_world is not None and real_world[0] != rescale:
        note = "The rescale slope and the real-world value map differ; the rescale slope is taken."
    if rescale[0] == 0:
        raise ImageFileError("a rescale slope of 0 makes all values equal")
    stated = rescales or real_world is not None or modality in _MEASURED
    inverted, looked_up = photometric == "MONOCHROME1" and not stated, photometric == "PALETTE COLOR"
    return Meaning(*rescale, units, inverted, looked_up, stated, note)


def refuse_colour(header: Dataset, *, as_label: bool = False) -> None:
    """See that an image is grey: one sample per pixel, and a palette, if any, of equal red, green and blue.

    Args:
        header: Header of the image.
        as_label: The values are labels, so that a palette may have any colours.

    Raises:
        ImageFileError: If it is in colour, or its palette is not in the file.
    """
    if number(header, "SamplesPerPixel") not in (None, 1):
        raise ImageFileError("colour images are not supported")
    if as_label or text(header, "PhotometricInterpretation") != "PALETTE COLOR":
        return
    for kind in (_PALETTE, f"Segmented{_PALETTE}"):
        tables = [value(header, kind.format(colour)) for colour in _COLOURS]
        if all(table is not None for table in tables):
            if any(table != tables[0] for table in tables):
                raise ImageFileError("PALETTE COLOR: values are indices of a colour table; colour is not supported")
            return
    raise ImageFileError("PALETTE COLOR: values are indices of a colour table that is not in the file")


def _real_world(frame: Dataset) -> tuple[tuple[float, float], str] | None:
    """Slope with intercept, and code of the units, of the first real-world value map."""
    for mapped in items(frame, "RealWorldValueMappingSequence"):
        if (slope := number(mapped, "RealWorldValueSlope")) is None:
            raise ImageFileError("a lookup table in place of a real-world value slope is not supported")
        unit = next((text(unit, "CodeValue") for unit in items(mapped, "MeasurementUnitsCodeSequence")), "")
        return (slope, number(mapped, "RealWorldValueIntercept") or 0.0), unit
    return None
