"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz).

Voxels are decompressed by ISA-L, which takes about a third of zlib's time, straight into the final array. It compresses
real numbers, for which zlib takes twenty times as long; whole numbers are compressed by zlib, since ISA-L now and then
gives other bytes for the same labels.
"""

import gzip
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray

from unetpipe.errors import ImageFileError
from unetpipe.files import atomic_path
from unetpipe.imaging.formats.nifti_header import MOST_BESIDE, NiftiHeader, read_header
from unetpipe.imaging.formats.scale import Scale, scaled
from unetpipe.imaging.geometry import MM_PER_UNIT, Grid, Unit
from unetpipe.imaging.volume import Volume

_SCANNER_SPACE = 1  # NIFTI_XFORM_SCANNER_ANAT
_COMMENT = 6  # NIFTI_ECODE_COMMENT
_UNIT_NAMES: dict[Unit, str] = {"m": "meter", "um": "micron", "voxel": "unknown"}
"""nibabel's names of what is not written in mm."""
_DEFLATE_LIMIT = 1100  # no more bytes than this come out of one
_FINE_SLOPE = 0.01
"""Below it a slope is none between labels: it stores whole numbers by rounding them to its multiples."""
_FLOAT_ROUNDING = 1e-5
_DAMAGE = (EOFError, OSError, zlib.error, cast(type[Exception], isal_zlib.error), struct.error)


def read(path: Path) -> Volume:
    """Read a whole file. The one axis after the spatial ones that has more than one entry holds the channels."""
    return _read(path)[0]


def read_label(path: Path) -> Volume:
    """Read a label map. Programs that save one by the header of a scan store it by a slope, which rounds its values.

    They are made whole where none lies further from a whole number than such rounding takes it.
    """
    volume, scale = _read(path)
    if scale is None or abs(scale[0]) >= _FINE_SLOPE:
        return volume
    whole = np.rint(volume.array)
    with np.errstate(invalid="ignore"):  # of infinite values, which are left to those who ask for whole numbers
        off = np.abs(volume.array - whole).max()
    if not 0 < off <= abs(scale[0]) / 2 + _FLOAT_ROUNDING:
        return volume
    notes = (*volume.notes, "labels are stored by a slope; whole numbers are taken")
    return replace(volume, array=whole, notes=notes)


def _read(path: Path) -> tuple[Volume, Scale | None]:
    with _named(path), closing(_open(path)) as stream:
        header = read_header(stream)
        array = _read_voxels(stream, header, path.stat().st_size)
        array = array.reshape((*header.grid.shape, header.channels), order="F")
        array = scaled(np.moveaxis(array, -1, 0), header.scale)
        return Volume(array, header.grid, notes=header.notes), header.scale


def read_grid(path: Path) -> tuple[int, Grid]:
    """Number of channels and grid; decompresses the header only."""
    with _named(path), closing(_open(path)) as stream:
        header = read_header(stream)
        return header.channels, header.grid


def write(path: Path, array: NDArray[Any], grid: Grid, names: Mapping[int, str] | None = None) -> None:
    """Write (C, *spatial) in file axis order; class names go into a header comment as JSON.

    Lengths are in the grid's unit if NIfTI has it, else in mm. The affine is stored as NIfTI has it, in float32: 200 mm
    from the origin that is exact to 1e-5 mm. An affine read from a NIfTI file's sform comes back unchanged.
    """
    if grid.ndim == 2 and len(array) > 1:
        raise ImageFileError(f"{path.name}: NIfTI has no 2-D images of {len(array)} channels; choose .mha or .png")
    unit: Unit = grid.unit if grid.unit in _UNIT_NAMES else "mm"
    affine = grid.matrix
    affine[:3] /= MM_PER_UNIT[unit]
    voxels = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    image = nib.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.set_sform(affine, code=_SCANNER_SPACE)
    image.set_qform(affine, code=_SCANNER_SPACE)
    tolerance = 1e-3 * min(grid.spacing_mm) / MM_PER_UNIT[unit]
    if not np.allclose(image.get_qform(), affine, rtol=1e-4, atol=tolerance):
        image.set_qform(None, code=0)  # a quaternion cannot hold a sheared affine
    image.header.set_xyzt_units(_UNIT_NAMES.get(unit, "mm"))
    if names:
        comment = json.dumps({"labels": {str(value): name for value, name in names.items()}}, ensure_ascii=False)
        image.header.extensions.append(Nifti1Extension(_COMMENT, comment.encode()))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            with _compressing(file, voxels.dtype) as stream:
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
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageFileError(f"{path.name}: damaged or truncated ({reason})") from error


def _compressing(file: BinaryIO, dtype: np.dtype[Any]) -> gzip.GzipFile:
    """Compress without a file name and a time in the header: the same labels give the same bytes."""
    if dtype.kind in "iub":
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=1, mtime=0)
    return cast(gzip.GzipFile, igzip.IGzipFile(filename="", mode="wb", fileobj=file, compresslevel=2, mtime=0))


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, igzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb"))


def _read_voxels(stream: BinaryIO, header: NiftiHeader, file_size: int) -> NDArray[Any]:
    dtype = header.dtype
    if header.count * dtype.itemsize > file_size * _DEFLATE_LIMIT:  # do not even try to allocate
        shape = (*header.grid.shape, header.channels)
        raise ImageFileError(f"truncated: {file_size} bytes cannot hold voxels of shape {shape}")
    stream.seek(header.offset)
    voxels = np.empty(header.count, dtype=dtype)
    view = memoryview(cast(Any, voxels.view(np.uint8)))
    filled = 0
    while filled < len(view):
        read = cast(Any, stream).readinto(view[filled:])
        if not read:
            raise ImageFileError(f"truncated: {filled} of {len(view)} bytes of voxels are there")
        filled += read
    further = 0
    while chunk := stream.read(1 << 20):  # gzip checks its sum at the end only
        further += len(chunk)
        if further > MOST_BESIDE:
            raise ImageFileError(f"the file goes on for more than {MOST_BESIDE >> 20} MiB behind its voxels")
    if header.ends_with_file and further:
        raise ImageFileError(f"the header does not say where voxels begin, and {further} bytes are too many for it")
    if dtype.names:
        return np.stack([voxels[name] for name in dtype.names[:3]], axis=-1).ravel(order="F")
    return voxels.astype(dtype.newbyteorder("="), copy=False)
