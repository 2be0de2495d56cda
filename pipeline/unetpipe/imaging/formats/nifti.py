"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz): the only module that knows nibabel.

Headers are nibabel's, so sform, qform and scaling mean what they mean there. Voxels are decompressed by ISA-L, which
takes about a third of zlib's time, straight into the final array.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.nifti1 import Nifti1Extension
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.files import atomic_path
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.volume import Volume

_SCANNER_SPACE = 1  # NIFTI_XFORM_SCANNER_ANAT
_COMMENT = 6  # NIFTI_ECODE_COMMENT
_DEFLATE_LIMIT = 1100  # no more bytes than this come out of one
_DAMAGE = (EOFError, OSError, zlib.error, cast(type[Exception], isal_zlib.error), struct.error)


def read(path: Path) -> Volume:
    """Read a whole file. 4-D (or 5-D with one time point) means that the last axis holds the channels."""
    with _named(path), closing(_open(path)) as stream:
        header = _read_header(stream)
        grid, channels = _grid_and_channels(header)
        array = _read_voxels(stream, header, path.stat().st_size)
        array = array.reshape((*grid.shape, channels), order="F")
        return Volume(_scaled(np.moveaxis(array, -1, 0), header), grid)


def read_grid(path: Path) -> tuple[int, Grid]:
    """Number of channels and grid; decompresses the header only."""
    with _named(path), closing(_open(path)) as stream:
        grid, channels = _grid_and_channels(_read_header(stream))
        return channels, grid


def write(path: Path, array: NDArray[Any], grid: Grid, names: Mapping[int, str] | None = None) -> None:
    """Write (C, *spatial) in file axis order; class names go into a header comment as JSON.

    The affine is stored as NIfTI has it, in float32: 200 mm from the origin that is exact to 1e-5 mm. An affine read
    from a NIfTI file's sform comes back unchanged.
    """
    if grid.ndim == 2 and len(array) > 1:
        raise ImageFileError(f"{path.name}: NIfTI has no 2-D images of {len(array)} channels; choose .mha or .png")
    voxels = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    image = nib.Nifti1Image(voxels, grid.matrix, dtype=voxels.dtype)
    image.set_sform(grid.matrix, code=_SCANNER_SPACE)
    image.set_qform(grid.matrix, code=_SCANNER_SPACE)
    if not np.allclose(image.get_qform(), grid.matrix, rtol=1e-4, atol=1e-3):
        image.set_qform(None, code=0)  # a quaternion cannot hold a sheared affine
    image.header.set_xyzt_units("mm")
    if names:
        comment = json.dumps({"labels": {str(value): name for value, name in names.items()}}, ensure_ascii=False)
        image.header.extensions.append(Nifti1Extension(_COMMENT, comment.encode()))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            # No file name and no time in the gzip header: the same labels give the same bytes.
            with igzip.IGzipFile(filename="", mode="wb", fileobj=file, compresslevel=2, mtime=0) as stream:
                image.to_stream(stream)
        else:
            image.to_stream(file)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name, and not its folder, before whatever is wrong with it."""
    try:
        yield
    except ImageFileError as error:
        raise ImageFileError(f"{path.name}: {error}") from error
    except (HeaderDataError, WrapStructError) as error:
        raise ImageFileError(f"{path.name}: bad NIfTI header ({error})") from error
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageFileError(f"{path.name}: damaged or truncated ({reason})") from error


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, igzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb"))


def _read_header(stream: BinaryIO) -> Any:
    start = stream.read(4)
    if not start:
        raise ImageFileError("empty file")
    sizes = {struct.unpack(order + "i", start)[0] for order in "<>"} if len(start) == 4 else set()
    kinds = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
    kind = next((kinds[size] for size in sizes if size in kinds), None)
    if kind is None:
        raise ImageFileError("not a NIfTI file (wrong header size)")
    block = start + stream.read(kind.template_dtype.itemsize - 4)
    if len(block) < kind.template_dtype.itemsize:
        raise ImageFileError("truncated inside the header")
    header = kind(block, check=False)
    axes = zip(header.get_data_shape()[:3], header["pixdim"][1:4], strict=False)
    # nibabel would take 1 mm; for a single slice that does no harm.
    if not header["sform_code"] and any(spacing == 0 and count > 1 for count, spacing in axes):
        raise GeometryError(f"voxel spacing must be positive, got {header['pixdim'][1:4].tolist()} mm")
    header.check_fix()
    return header


def _grid_and_channels(header: Any) -> tuple[Grid, int]:
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) == 5 and shape[3] == 1:  # how ITK stores vector pixels
        shape = (*shape[:3], shape[4])
    if len(shape) not in (2, 3, 4):
        raise GeometryError(f"expected 2, 3 or 4 axes, got shape {shape}")
    try:
        affine = header.get_best_affine()
    except ValueError as error:
        raise GeometryError(f"the qform is invalid ({error})") from error
    channels = shape[3] if len(shape) == 4 else 1
    if names := header.get_data_dtype().names:  # RGB voxels
        if channels > 1:
            raise GeometryError(f"RGB voxels with a fourth axis are not supported, got shape {shape}")
        channels = len(names[:3])  # without alpha
    return Grid.of(shape[:3], affine), channels


def _read_voxels(stream: BinaryIO, header: Any, file_size: int) -> NDArray[Any]:
    dtype = header.get_data_dtype()
    if dtype.kind == "c":
        raise ImageFileError(f"complex voxels ({dtype}) are not supported")
    count = prod(map(int, header.get_data_shape()))
    if count * dtype.itemsize > file_size * _DEFLATE_LIMIT:  # do not even try to allocate
        raise ImageFileError(f"truncated, {file_size} bytes cannot hold shape {header.get_data_shape()}")
    stream.seek(header.get_data_offset())
    voxels = np.empty(count, dtype=dtype)
    view = memoryview(cast(Any, voxels.view(np.uint8)))
    filled = 0
    while filled < len(view):
        read = cast(Any, stream).readinto(view[filled:])
        if not read:
            raise ImageFileError(f"truncated, {filled} of {len(view)} bytes of voxels are there")
        filled += read
    while stream.read(1 << 20):  # gzip checks its sum at the end only
        pass
    if dtype.names:
        return np.stack([voxels[name] for name in dtype.names[:3]], axis=-1).ravel(order="F")
    return voxels.astype(dtype.newbyteorder("="), copy=False)


def _scaled(array: NDArray[Any], header: Any) -> NDArray[Any]:
    slope, intercept = header.get_slope_inter()
    if slope is None or (slope, intercept) == (1.0, 0.0):
        return array
    dtype = np.float32 if array.dtype.itemsize <= 2 else np.float64
    scaled: NDArray[Any] = array.astype(dtype)
    np.multiply(scaled, slope, out=scaled)
    np.add(scaled, intercept, out=scaled)
    return scaled
