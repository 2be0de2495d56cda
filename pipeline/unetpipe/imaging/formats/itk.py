"""MetaImage (.mha, .mhd) and NRRD, by SimpleITK, whose coordinates are LPS."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk  # noqa: N813 - as its documentation has it
from isal import isal_zlib
from numpy.typing import NDArray

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.files import atomic_path
from unetpipe.imaging.formats.itk_header import TextHeader, read_text_header
from unetpipe.imaging.formats.segments import merged, name_values, read_segments
from unetpipe.imaging.geometry import MM_PER_UNIT, Grid, Unit
from unetpipe.imaging.size_limit import refuse_beyond_limit
from unetpipe.imaging.volume import Volume
from unetpipe.process_setting import ProcessSetting

# ITK writes its warnings to stderr, with paths in them.
_without_warnings = ProcessSetting(
    sitk.ProcessObject.GetGlobalWarningDisplay, sitk.ProcessObject.SetGlobalWarningDisplay, False
)
_BAD_STREAM = cast(type[Exception], isal_zlib.error)
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_METAIMAGE = (".mha", ".mhd")
_METAIMAGE_UNITS = ("mm", "um", "cm")
_NRRD_UNITS = ("m", "cm", "mm", "um", "nm")


def read(path: Path) -> Volume:
    """Read a whole file; vector pixels, or the one axis after the third with more than one entry, are the channels."""
    with _named(path):
        return _read(path, read_text_header(path))


def read_label(path: Path) -> Volume:
    """Read a label map; the layers of a segmentation by 3D Slicer become one map, with the names of its segments.

    Raises:
        ImageFileError: If segments overlap.
    """
    with _named(path):
        header = read_text_header(path)
        volume = _read(path, header)
        if not (segments := read_segments(header.pairs)):
            return volume
        return replace(volume, array=merged(volume.array, segments), names=name_values(segments))


def read_grid(path: Path) -> tuple[int, Grid]:
    """Number of channels and grid, from the header."""
    with _named(path):
        header = read_text_header(path)
        return _channels_and_grid(_reader(path, header), header)


def write(path: Path, array: NDArray[Any], grid: Grid, names: Mapping[int, str] | None = None) -> None:
    """Write (C, *spatial) in file axis order, compressed; several channels become vector pixels.

    Lengths are in the grid's unit if the format has it, else in mm.
    """
    if path.suffix.lower() in (".mhd", ".nhdr"):
        raise ImageFileError(f"{path.name}: header and voxels in two files are not written; choose .mha or .nrrd")
    if grid.ndim == 2 and not np.allclose(grid.matrix[2, :2], 0):
        raise GeometryError(f"{path.name}: this format has no place for a 2-D image that is not axial")
    is_metaimage = path.suffix.lower() in _METAIMAGE
    unit: Unit = grid.unit if grid.unit in (_METAIMAGE_UNITS if is_metaimage else _NRRD_UNITS) else "mm"
    image = _image(array, grid, unit)
    if names:
        image.SetMetaData("labels", json.dumps({str(value): name for value, name in names.items()}))
    if is_metaimage and unit != "mm":
        image.SetMetaData("ITK_VoxelUnits", unit)
    with atomic_path(path) as temporary:
        written = temporary.with_suffix(path.suffix.lower())  # MetaIO knows no suffix in capitals
        try:
            with _without_warnings:
                sitk.WriteImage(image, str(written), useCompression=True)
        except RuntimeError as error:
            raise ImageFileError(f"{path.name}: cannot be written as {path.suffix}") from error
        finally:
            if written.exists():
                written.replace(temporary)
        if not is_metaimage and unit != "mm":  # ITK has no way to say it
            stated = b"\nspace units:" + f' "{unit}"'.encode() * grid.ndim
            directions = b"\nspace directions:"
            temporary.write_bytes(temporary.read_bytes().replace(directions, stated + directions, 1))


def _image(array: NDArray[Any], grid: Grid, unit: Unit) -> Any:
    """SimpleITK's image of (C, *spatial), its lengths in the given unit."""
    vector = len(array) > 1
    voxels = array.transpose(*range(grid.ndim, 0, -1), 0) if vector else array[0].T
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels), isVector=vector)
    lps = (_LPS @ grid.matrix)[: grid.ndim]
    image.SetSpacing([length / MM_PER_UNIT[unit] for length in grid.spacing_mm])
    image.SetOrigin((lps[:, 3] / MM_PER_UNIT[unit]).tolist())
    image.SetDirection((lps[:, : grid.ndim] / grid.spacing_mm).ravel().tolist())
    return image


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name, and not its folder, before whatever is wrong with it."""
    try:
        with _without_warnings:
            yield
    except ImageFileError as error:
        raise ImageFileError(f"{path.name}: {error}") from error
    except (RuntimeError, OSError, MemoryError, _BAD_STREAM) as error:
        raise ImageFileError(f"{path.name}: damaged, truncated, or its data file is missing") from error


def _read(path: Path, header: TextHeader) -> Volume:
    reader = _reader(path, header)
    channels, grid = _channels_and_grid(reader, header)
    if header.compressed and path.suffix.lower() in _METAIMAGE:
        _refuse_damaged_stream(path, header, _voxel_bytes(reader))
    # SimpleITK's arrays run (K, J, I[, C]); its vector pixels come last, its fourth axis first.
    image = reader.Execute()
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    return Volume(array.reshape(channels, *reversed(grid.shape)).transpose(0, *range(grid.ndim, 0, -1)), grid)


def _refuse_damaged_stream(path: Path, header: TextHeader, size: int) -> None:
    """Decompress once for the checksum alone: ITK hands out what came before a damaged byte, and says nothing."""
    data = header.data_file(path)
    if data is None:
        return
    with data.open("rb") as voxels:
        voxels.seek(header.end if data == path else 0)
        stream = isal_zlib.decompressobj()
        while not stream.eof and size >= 0 and (chunk := voxels.read(1 << 16)):
            size -= len(stream.decompress(chunk))
    if size < 0:
        raise ImageFileError("damaged: more voxels are compressed than its header says")
    if not stream.eof:
        raise ImageFileError("truncated")


def _reader(path: Path, header: TextHeader) -> Any:
    """A reader that has read the header, of the format that the suffix names and no other."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO" if path.suffix.lower() in _METAIMAGE else "NrrdImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageFileError(f"not a readable {path.suffix.lower()} header") from error
    refuse_beyond_limit(reader.GetSize(), reader.GetNumberOfComponents())
    header.refuse_less_than(_voxel_bytes(reader), path)
    return reader


def _voxel_bytes(reader: Any) -> int:
    """Bytes of all voxels.

    Raises:
        ImageFileError: If voxels are of a type that is not read.
    """
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())  # such as "vector of 16-bit signed integer"
    if (bits := re.search(r"(\d+)-bit", kind)) is None or "complex" in kind:
        raise ImageFileError(f"voxels of type {kind} are not supported")
    return int(prod(reader.GetSize()) * reader.GetNumberOfComponents()) * int(bits[1]) // 8


def _channels_and_grid(reader: Any, header: TextHeader) -> tuple[int, Grid]:
    size = reader.GetSize()
    components = reader.GetNumberOfComponents()
    further = [count for count in size[3:] if count > 1]
    if len(size) < 2 or len(further) + (components > 1) > 1:
        raise GeometryError(f"expected 2 or 3 axes and channels, got size {size} of {components} components")
    ndim = min(len(size), 3)
    direction = np.array(reader.GetDirection()).reshape(len(size), len(size))
    lps = np.eye(4)
    lps[:ndim, :ndim] = direction[:ndim, :ndim] * np.array(reader.GetSpacing())[:ndim]
    lps[:ndim, 3] = reader.GetOrigin()[:ndim]
    units = header.units(ndim)
    lps[:ndim] *= np.array([MM_PER_UNIT[unit] for unit in units])[:, None]
    return (further or [components])[0], Grid.of(size[:ndim], _LPS @ lps, units[0])
