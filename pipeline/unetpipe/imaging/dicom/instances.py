"""Single DICOM instances as a network service handles them: what identifies one, and new identifiers for a result."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.uid import UID

from unetpipe.errors import ImageFileError
from unetpipe.files import atomic_path
from unetpipe.imaging.dicom.attributes import damage, text, without_validation

_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True)
class InstanceIdentity:
    """The identifiers of one instance.

    Attributes:
        study, series, instance: UIDs.
        sop_class: UID of what kind of object it is.
        syntax: UID of its transfer syntax.
        modality: Its modality; empty where it states none.
    """

    study: str
    series: str
    instance: str
    sop_class: str
    syntax: str
    modality: str = ""


@without_validation
def identify(source: Path | bytes) -> InstanceIdentity:
    """Read the identifiers of a file in the DICOM file format, or of its content.

    Raises:
        ImageFileError: If it is damaged, or one of the identifiers is absent.
    """
    with damage("an instance is damaged or no DICOM"), _opened(source) as stream:
        data = dcmread(stream, stop_before_pixels=True, specific_tags=[*_KEYWORDS, "Modality"])
        found = {keyword: text(data, keyword) for keyword in _KEYWORDS}
        modality = text(data, "Modality")
        syntax = str(data.file_meta.get("TransferSyntaxUID", ""))
    lacking = [keyword for keyword, value in found.items() if not value]
    if lacking:
        raise ImageFileError(f"an instance has no {', '.join(lacking)}")
    return InstanceIdentity(
        study=found["StudyInstanceUID"],
        series=found["SeriesInstanceUID"],
        instance=found["SOPInstanceUID"],
        sop_class=found["SOPClassUID"],
        syntax=syntax,
        modality=modality or "",
    )


@without_validation
def read_whole(path: Path) -> Dataset:
    """Read a file with its pixels, for a library that sends datasets.

    Raises:
        ImageFileError: If it is damaged.
    """
    with damage("an instance is damaged or no DICOM"):
        return dcmread(path)


def uid_of(digest: bytes) -> str:
    """The UID that stands for 16 bytes: below ``2.25``, as PS3.5 B.2 derives one from a UUID."""
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


@without_validation
def renumber(path: Path, *, series: str, instance: str) -> None:
    """Give an object that was made here the identifiers of a series and an instance; the file is replaced atomically.

    Nothing in a segmentation or a report refers to its own series or instance, so that no other attribute changes.

    Raises:
        ImageFileError: If it is damaged.
    """
    data = read_whole(path)
    data.SeriesInstanceUID, data.SOPInstanceUID = UID(series), UID(instance)
    data.file_meta.MediaStorageSOPInstanceUID = UID(instance)
    with atomic_path(path) as temporary:
        data.save_as(temporary, enforce_file_format=True)


def _opened(source: Path | bytes) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else source.open("rb")
