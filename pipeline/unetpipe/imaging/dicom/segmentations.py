"""Label maps from DICOM: the segmentation or the structure set that a source holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.dicom.attributes import damage, text, without_validation
from unetpipe.imaging.dicom.headers import Other, read_dataset, read_header
from unetpipe.imaging.dicom.label_target import LabelTarget
from unetpipe.imaging.dicom.rtstruct import read_rtstruct
from unetpipe.imaging.dicom.seg import read_seg
from unetpipe.imaging.dicom.sources import DicomFile, list_files, looks_like_dicom
from unetpipe.imaging.volume import Volume

_KINDS = ("SEG", "RTSTRUCT")


@without_validation
def read_segmentation(path: Path, target: LabelTarget | None) -> Volume | None:
    """Read the one segmentation or structure set of a source as a label map.

    Args:
        path: A file, a folder of any depth or a zip.
        target: Grid of the image and classes. Without it a segmentation is read on its own grid.

    Returns:
        Integers of shape (1, I, J, K); None where the source holds neither.

    Raises:
        ImageFileError: If it holds several, or the one is damaged, or its segments are not the classes.
        GeometryError: If it does not lie on the image's grid.
    """
    found = [file for file in list_files(path) if _is_segmentation(file)]
    if not found:
        return None
    with _prefixed():
        if len(found) > 1:
            raise ImageFileError(f"{len(found)} segmentations or structure sets, expected one: name its file")
        with damage("the file is damaged"):
            data, syntax = read_dataset(found[0])
            if text(data, "Modality") == "SEG":
                return read_seg(data, syntax, target)
            if target is None:
                raise ImageFileError("contours of a structure set need the image that they were drawn on")
            return read_rtstruct(data, target)


def _is_segmentation(file: DicomFile) -> bool:
    if not looks_like_dicom(file.head()):
        return False
    found = read_header(file)
    return isinstance(found, Other) and found.modality in _KINDS


@contextmanager
def _prefixed() -> Iterator[None]:
    """Say of an error that it is about a segmentation in DICOM, in place of a file's name."""
    try:
        yield
    except (ImageFileError, GeometryError) as error:
        raise type(error)(f"DICOM segmentation: {error}") from error
