"""Reading and writing one volume, whatever its format.

Formats have modules of their own, imported when a file of theirs comes, so that scoring NIfTI labels needs neither
SimpleITK nor pydicom, and nothing here needs torch.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.components import source_digest
from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.sources import is_dicom
from unetpipe.imaging.formats.registered import RegisteredFormat, reader_suffixes
from unetpipe.imaging.formats.sidecar import lengths_file
from unetpipe.imaging.formats.signatures import LENGTH, contradiction
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.volume import Volume

_NIFTI = (".nii.gz", ".nii")
_ITK = (".mha", ".mhd", ".seg.nrrd", ".nrrd", ".nhdr")
_TIFF = (".ome.tif", ".ome.tiff", ".tif", ".tiff")
_RASTER = (".png", ".jpg", ".jpeg")
_DICOM = (".dcm", ".dicom", ".ima", ".zip")
_PAIRS = (".hdr", ".img", ".hdr.gz", ".img.gz")
_SUFFIXES = (*_NIFTI, *_ITK, *_TIFF, *_RASTER)
_BROKEN = "a link to a file that is not there; was it fetched?"


def read_volume(path: Path, dicom: DicomOptions | None = None, *, as_label: bool = False) -> Volume:
    """Read a file, or a volume of a DICOM source: a folder of any depth, a zip or a file.

    Args:
        path: Path of the file or folder. A link counts under its own name, whatever it points to.
        dicom: Choice of the volume in a DICOM source; the only one unless given.
        as_label: The values are labels: indices of a colour table stay as they are, where an image becomes its colours,
            and a file that is compressed with loss is refused.

    Raises:
        ImageFileError: If it is missing, empty, truncated, damaged, of no known format or of another than its suffix
            says.
        GeometryError: If its affine cannot be used, or slices of a series are missing or uneven.
    """
    try:
        if is_dicom_source(path):
            from unetpipe.imaging.dicom import series

            return series.read(path, dicom or DicomOptions(), as_label=as_label)
        module = _format(path)
        read = getattr(module, "read_label", module.read) if as_label else module.read
        volume: Volume = read(path)
    except GeometryError as error:
        raise GeometryError(f"{_label(path)}: {error}") from error
    return volume


def read_grid(path: Path, dicom: DicomOptions | None = None) -> tuple[int, Grid]:
    """Number of channels and grid of what `read_volume` reads, from headers only.

    Raises:
        ImageFileError, GeometryError: As `read_volume`, as far as the headers tell.
    """
    try:
        if is_dicom_source(path):
            from unetpipe.imaging.dicom import series

            return series.read_grid(path, dicom or DicomOptions())
        channels, grid = _format(path).read_grid(path)
    except GeometryError as error:
        raise GeometryError(f"{_label(path)}: {error}") from error
    return channels, grid


def read_frames_of_reference(path: Path, dicom: DicomOptions | None = None) -> frozenset[str]:
    """UIDs of the frames of reference that the slices of a volume state, from headers only; none of other formats.

    Raises:
        ImageFileError, GeometryError: As `read_volume`, as far as the headers tell.
    """
    if not is_dicom_source(path):
        return frozenset()
    from unetpipe.imaging.dicom import series

    return series.read_frames_of_reference(path, dicom or DicomOptions())


def write_labels(path: Path, labels: NDArray[Any], grid: Grid, names: Mapping[int, str]) -> None:
    """Write a label map in the smallest integer type that holds it, in the format that the suffix names.

    Args:
        path: Replaced in one step once everything is on disk; folders are made.
        labels: (I, J[, K]) in the axis order of `grid`.
        grid: Grid of the file.
        names: Class of each value, kept in the header where the format has a place for it.

    Raises:
        GeometryError: If the shapes differ.
        ImageFileError: If the format cannot hold labels, or the disk does not take them.
    """
    if labels.shape != grid.shape:
        raise GeometryError(f"{path.name}: labels of shape {labels.shape} do not fit a grid of shape {grid.shape}")
    lowest, highest = int(labels.min()), int(labels.max())
    kinds = (np.uint8, np.uint16, np.int16, np.int32)
    kind = next((k for k in kinds if np.iinfo(k).min <= lowest and highest <= np.iinfo(k).max), np.int64)
    _write(path, labels[None].astype(kind), grid, names)


def write_image(path: Path, array: NDArray[Any], grid: Grid) -> None:
    """Write an image of shape (C, I, J[, K]) in the format that the suffix names; half precision becomes float32.

    Raises:
        GeometryError: If the shapes differ.
        ImageFileError: If the format cannot hold it, or the disk does not take it.
    """
    if array.shape[1:] != grid.shape:
        raise GeometryError(f"{path.name}: an image of shape {array.shape} does not fit a grid of shape {grid.shape}")
    kinds: dict[np.dtype[Any], type[Any]] = {np.dtype(np.float16): np.float32, np.dtype(np.bool_): np.uint8}
    _write(path, array.astype(kinds.get(array.dtype, array.dtype), copy=False), grid, None)


def strip_suffix(name: str) -> str:
    """A file name without its image suffix: ``a.b.nii.gz`` is ``a.b``, ``a.seg.nrrd`` is ``a``; others stay whole."""
    suffix = _suffix(name) or next((one for one in _DICOM if name.lower().endswith(one)), "")
    return name[: -len(suffix)] if suffix else name


def is_image(path: Path) -> bool:
    """Whether this can be an image: a file with a known suffix, or a folder, zip or file that holds DICOM."""
    return (bool(_suffix(path.name)) and path.is_file()) or is_dicom(path)


def files_of(path: Path) -> list[Path]:
    """The file itself, and others of it that are there: those of its voxels, or the one that states their size."""
    if _suffix(path.name) not in _ITK:
        beside = lengths_file(path)
        return [path, beside] if beside else [path]
    from unetpipe.imaging.formats.itk_header import read_text_header

    try:
        data = read_text_header(path).data_files(path)
    except ImageFileError:
        data = []
    return [path, *(file for file in data if file != path and file.is_file())]


def has_image_suffix(name: str) -> bool:
    """Whether a file name ends as files of a format that is read here."""
    return bool(_suffix(name))


def code_digest(path: Path) -> str:
    """SHA-256 of the code that an extension reads this file with; empty for the package's own formats."""
    return source_digest("reader", _suffix(path.name))


def _suffix(name: str) -> str:
    """The longest suffix of a format that the name ends in; empty if there is none."""
    return _longest_suffix(name.lower(), reader_suffixes())


@lru_cache(maxsize=4096)
def _longest_suffix(name: str, readers: tuple[str, ...]) -> str:
    return max((one for one in (*readers, *_SUFFIXES) if name.endswith(one)), key=len, default="")


def is_dicom_source(path: Path) -> bool:
    """Whether a path is read as DICOM: any folder, and a file that no other format claims and that is DICOM."""
    return path.is_dir() or (not _suffix(path.name) and path.is_file() and is_dicom(path))


def _label(path: Path) -> str:
    return "DICOM series" if is_dicom_source(path) else path.name


def _write(path: Path, array: NDArray[Any], grid: Grid, names: Mapping[int, str] | None) -> None:
    module = _format(path, write=True)
    try:
        module.write(path, array, grid, names)
    except OSError as error:
        raise ImageFileError(f"{path.name}: cannot be written ({error.strerror or error})") from error


def _format(path: Path, *, write: bool = False) -> Any:
    if not write:
        _refuse_unusable(path)
    suffix = _suffix(path.name)
    if suffix in reader_suffixes() and not (write and suffix in _SUFFIXES):
        return RegisteredFormat(suffix)
    if suffix in _NIFTI:
        from unetpipe.imaging.formats import nifti

        return nifti
    if suffix in _ITK:
        from unetpipe.imaging.formats import itk

        return itk
    if suffix in _TIFF:
        from unetpipe.imaging.formats import tiff

        return tiff
    if suffix in _RASTER:
        from unetpipe.imaging.formats import raster

        return raster
    if path.name.lower().endswith(_PAIRS):
        raise ImageFileError(
            f"{path.name}: NIfTI and ANALYZE in two files (.hdr, .img) are not read; convert to .nii.gz"
        )
    if path.name.lower().endswith(_DICOM):
        raise ImageFileError(f"{path.name}: holds no DICOM, or is damaged")
    known = " ".join((*_SUFFIXES, *reader_suffixes()))
    raise ImageFileError(f"{path.name}: unknown format; expected one of {known} or DICOM")


def _refuse_unusable(path: Path) -> None:
    """See that a file is there, and holds what its name says."""
    if not path.is_file():
        is_broken = path.is_symlink() and not path.exists()
        raise ImageFileError(f"{path.name}: {_BROKEN if is_broken else 'no such file'}")
    try:
        with path.open("rb") as file:
            start = file.read(LENGTH)
    except OSError as error:
        raise ImageFileError(f"{path.name}: cannot be read ({error.strerror})") from error
    if not start:
        raise ImageFileError(f"{path.name}: empty file")
    suffix = _suffix(path.name)
    if suffix in _SUFFIXES and suffix not in reader_suffixes() and (other := contradiction(suffix, start)):
        raise ImageFileError(f"{path.name}: {other}")
