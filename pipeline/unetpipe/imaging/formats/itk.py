"""MetaImage (.mha, .mhd) and NRRD: the only module that knows SimpleITK, and with it LPS."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk  # noqa: N813 - as its documentation has it
from isal import isal_zlib
from numpy.typing import NDArray

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.files import atomic_path
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.volume import Volume
from unetpipe.process_setting import ProcessSetting

# ITK writes its warnings to stderr, with paths in them.
_without_warnings = ProcessSetting(
    sitk.ProcessObject.GetGlobalWarningDisplay, sitk.ProcessObject.SetGlobalWarningDisplay, False
)
_BAD_STREAM = cast(type[Exception], isal_zlib.error)
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@_without_warnings
def read(path: Path) -> Volume:
    """Read a whole file; vector pixels, or the last axis of a 4-D image, are the channels."""
    reader = _reader(path)
    channels, grid = _channels_and_grid(reader)
    try:
        if path.suffix.lower() in (".mha", ".mhd"):
            _refuse_damaged_stream(path)
        image = reader.Execute()
    except (RuntimeError, OSError, _BAD_STREAM) as error:
        raise ImageFileError(f"{path.name}: damaged, truncated, or its data file is missing") from error
    # SimpleITK's arrays run (K, J, I[, C]); its vector pixels come last, its fourth axis first.
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    return Volume(array.reshape(channels, *reversed(grid.shape)).transpose(0, *range(grid.ndim, 0, -1)), grid)


@_without_warnings
def read_grid(path: Path) -> tuple[int, Grid]:
    """Number of channels and grid, from the header."""
    return _channels_and_grid(_reader(path))


@_without_warnings
def write(path: Path, array: NDArray[Any], grid: Grid, names: Mapping[int, str] | None = None) -> None:
    """Write (C, *spatial) in file axis order, compressed; several channels become vector pixels."""
    if path.suffix.lower() in (".mhd", ".nhdr"):
        raise ImageFileError(f"{path.name}: header and voxels in two files are not written; choose .mha or .nrrd")
    vector = len(array) > 1
    voxels = array.transpose(*range(grid.ndim, 0, -1), 0) if vector else array[0].T
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels), isVector=vector)
    lps = (_LPS @ grid.matrix)[: grid.ndim]
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(lps[:, 3].tolist())
    if grid.ndim == 2 and not np.allclose(grid.matrix[2, :2], 0):
        raise GeometryError(f"{path.name}: this format has no place for a 2-D image that is not axial")
    image.SetDirection((lps[:, : grid.ndim] / grid.spacing_mm).ravel().tolist())
    if names:
        image.SetMetaData("labels", json.dumps({str(value): name for value, name in names.items()}))
    with atomic_path(path) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise ImageFileError(f"{path.name}: cannot be written as {path.suffix}") from error


def _refuse_damaged_stream(path: Path) -> None:
    """Decompress once for the checksum alone: ITK hands out what came before a damaged byte, and says nothing."""
    fields: dict[str, str] = {}
    with path.open("rb") as header:
        for line in header:
            key, _, value = line.decode("latin-1").partition("=")
            fields[key.strip()] = value.strip()
            if "ElementDataFile" in fields:
                break
        elsewhere = path.parent / fields.get("ElementDataFile", "")
        own = elsewhere.name.upper() == "LOCAL"
        if fields.get("CompressedData", "").lower() != "true" or not (own or elsewhere.is_file()):
            return
        with header if own else elsewhere.open("rb") as voxels:
            stream = isal_zlib.decompressobj()
            while not stream.eof and (chunk := voxels.read(1 << 16)):
                stream.decompress(chunk)
    if not stream.eof:
        raise ImageFileError(f"{path.name}: truncated")


def _reader(path: Path) -> Any:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageFileError(f"{path.name}: not a readable {path.suffix.lower()} header") from error
    return reader


def _channels_and_grid(reader: Any) -> tuple[int, Grid]:
    size = reader.GetSize()
    components = reader.GetNumberOfComponents()
    if len(size) not in (2, 3, 4) or (len(size) == 4 and components > 1):
        raise GeometryError(f"expected 2 or 3 axes and channels, got size {size} of {components} components")
    ndim = min(len(size), 3)
    direction = np.array(reader.GetDirection()).reshape(len(size), len(size))
    lps = np.eye(4)
    lps[:ndim, :ndim] = direction[:ndim, :ndim] * np.array(reader.GetSpacing())[:ndim]
    lps[:ndim, 3] = reader.GetOrigin()[:ndim]
    return (size[3] if len(size) == 4 else components), Grid.of(size[:ndim], _LPS @ lps)
