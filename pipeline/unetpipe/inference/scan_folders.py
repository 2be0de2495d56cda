"""What lies in the folders that a person names, by names and first bytes alone."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from unetpipe.imaging.dicom.sources import is_dicom
from unetpipe.imaging.files import has_image_suffix

_SEGMENTATION = ".seg.nrrd"


def visible_in(folder: Path) -> list[Path]:
    """What lies in a folder, hidden files aside, by name."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def image_files_in(path: Path) -> list[Path]:
    """Image files of a folder by their names, but no segmentations; none of a file."""
    names = visible_in(path) if path.is_dir() else []
    images = [one for one in names if has_image_suffix(one.name) and not _is_segmentation(one)]
    return [one for one in images if not one.is_dir()]


def segmentations_in(folder: Path) -> list[Path]:
    """Segmentations of 3D Slicer in a folder."""
    return [path for path in visible_in(folder) if _is_segmentation(path)]


def is_zip(path: Path) -> bool:
    """Whether a file is a zip by its content, or should be one by its name."""
    return path.suffix.lower() == ".zip" or (zipfile.is_zipfile(path) and not has_image_suffix(path.name))


def is_dicom_file(path: Path) -> bool:
    """Whether a path is a DICOM file by its content, and no image or zip by its name."""
    other = has_image_suffix(path.name) or path.suffix.lower() == ".zip"
    return not other and path.is_file() and is_dicom(path)


def holds_dicom(folder: Path) -> bool:
    """Whether DICOM files lie in the folder itself."""
    return any(is_dicom_file(path) for path in visible_in(folder))


def folders_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders that hold DICOM files, and others, from one on downwards: each once, and none below a series."""
    series: list[Path] = []
    others: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        status = path.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        if holds_dicom(path):
            series.append(path)
        else:
            others.append(path)
            waiting += [inside for inside in visible_in(path) if inside.is_dir()]
    return sorted(series), others


def common_folder(folders: Sequence[Path]) -> Path:
    """The lowest folder that is each of these folders or holds it."""
    first = folders[0]
    return next(place for place in (first, *first.parents) if all(one.is_relative_to(place) for one in folders))


def _is_segmentation(path: Path) -> bool:
    return path.name.lower().endswith(_SEGMENTATION)
