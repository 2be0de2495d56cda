"""What objects of every kind have in common: a series of their own, references to images, and how they are saved."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydicom import Dataset
from pydicom.uid import generate_uid

from unetpipe.documents import Record
from unetpipe.files import atomic_path
from unetpipe.imaging.dicom.attributes import without_validation
from unetpipe.imaging.dicom.derived.source import ImageReference, Source, patient_and_study

Kind = Literal["segmentation", "structure set", "measurements"]
_SERIES = {"segmentation": 1, "structure set": 2, "measurements": 3}
_LARGEST_NUMBER = 2**31 - 1  # of the value representation IS


class NewInstance(Record):
    """Identifiers of an object that is about to be written; each object has a series of its own.

    Attributes:
        series, instance: Its SeriesInstanceUID and SOPInstanceUID.
        sop_class: Its SOPClassUID.
        series_number: SeriesNumber: a hundred times that of the source, and a digit for the kind of the object.
        description: SeriesDescription.
    """

    series: str
    instance: str
    sop_class: str
    series_number: int
    description: str

    @classmethod
    def of(cls, kind: Kind, sop_class: str, source: Source) -> "NewInstance":
        """Make new identifiers for an object that is derived from a source."""
        number = max(source.series_number, 0) * 100 + _SERIES[kind]
        return cls(
            series=generate_uid(None),
            instance=generate_uid(None),
            sop_class=sop_class,
            series_number=number if number <= _LARGEST_NUMBER else _SERIES[kind],
            description=f"unetpipe {kind}{', mended geometry' if source.mended else ''}",
        )


def reference(image: ImageReference, *, frame: bool = False) -> Dataset:
    """An item that refers to an image; to one of its frames, where it has several and `frame` is set."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.sop_class, image.sop_instance
    if frame and image.frame is not None:
        item.ReferencedFrameNumber = image.frame
    return item


def by_series(images: Iterable[ImageReference]) -> dict[str, list[ImageReference]]:
    """Images by the UID of their series."""
    grouped: dict[str, list[ImageReference]] = {}
    for image in images:
        grouped.setdefault(image.series, []).append(image)
    return grouped


@without_validation
def save(path: Path, data: Dataset, source: Source) -> None:
    """Give an object the patient and the study of its source, and write it, atomically.

    Args:
        path: File to write or replace.
        data: The object, with its file meta information.
        source: Series that it is derived from.
    """
    patient_and_study(source, data)
    with atomic_path(path) as temporary:
        data.save_as(temporary, enforce_file_format=True)
