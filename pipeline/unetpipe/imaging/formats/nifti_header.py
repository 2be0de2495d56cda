"""What a NIfTI header says, read by the rules of the standard's own library where nibabel's differ.

nibabel knows the fields and the voxel types. Its checks are not used: they let a ``vox_offset`` of 0 pass, so that the
header is taken for voxels, and an image of no volumes, and refuse quaternions whose rounding makes them longer than 1.

Source:
    https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h and ``nifti_convert_nhdr2nim`` of nifti1_io.c.
"""

import struct
from dataclasses import dataclass
from math import hypot, prod
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.formats.scale import Scale
from unetpipe.imaging.geometry import MM_PER_UNIT, Grid, Shape, Unit
from unetpipe.imaging.size_limit import refuse_beyond_limit

_KINDS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_UNITS: dict[int, Unit] = {0: "mm", 1: "m", 2: "mm", 3: "um"}
"""Unit by the lowest three bits of ``xyzt_units``; where the unit is unknown, readers take mm."""
_QUATERNION_EXCESS = 5e-4
"""Amount by which a rounded quaternion may be longer than 1."""
_FARTHEST = 1e12
"""No affine holds larger numbers, whatever its unit: their squares would overflow."""
MOST_BESIDE = 1 << 26
"""Bytes that a file may hold before or behind its voxels, 64 MiB, so that a stream without end comes to one."""
_SPACING_DIFFERS = 0.01
_PLACE_DIFFERS = 0.5
"""Differences of spacing, as a fraction, and of place, in voxels, from which sform and qform contradict each other."""


@dataclass(frozen=True, kw_only=True)
class NiftiHeader:
    """The part of a header that reading the voxels needs.

    Attributes:
        grid: Grid of the spatial axes, in mm.
        channels: Number of entries along the one further axis that has several, or of components of colour voxels.
        dtype: Data type of a stored voxel, in the file's byte order.
        offset: Byte at which the voxels begin.
        ends_with_file: Whether the file must end with its last voxel, because `offset` is only then certain.
        scale: Scale from stored numbers to values; None where these are the values.
        notes: Decisions made where the header contradicts itself.
    """

    grid: Grid
    channels: int
    dtype: np.dtype[Any]
    offset: int
    ends_with_file: bool
    scale: Scale | None
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of stored voxels."""
        return prod(self.grid.shape) * (1 if self.dtype.names else self.channels)


def read_header(stream: BinaryIO) -> NiftiHeader:
    """Read the header at the start of a stream.

    Raises:
        ImageFileError: If it is no NIfTI header of one file, says what no file can hold, or claims more voxels than
            may be read.
        GeometryError: If it does not say where voxels lie.
    """
    header, order = _fields(stream)
    shape, channels = _shape(header)
    dtype = _dtype(header)
    if dtype.names:
        if channels > 1:
            raise ImageFileError(f"colour voxels with {channels} volumes are not supported")
        channels = 3
    refuse_beyond_limit(shape, channels)
    offset, certain = _offset(header, stream, order)
    notes: list[str] = []
    unit = _unit(header, notes)
    affine = _affine(header, shape, notes)
    affine[:3] *= MM_PER_UNIT[unit]
    return NiftiHeader(
        grid=Grid.of(shape, affine, unit),
        channels=channels,
        dtype=dtype,
        offset=offset,
        ends_with_file=not certain,
        scale=None if dtype.names else _scale(header),  # the standard gives colours no scale
        notes=tuple(notes),
    )


def _fields(stream: BinaryIO) -> tuple[Any, str]:
    """The fields of either version, and their byte order."""
    start = stream.read(4)
    if not start:
        raise ImageFileError("empty file")
    sizes = {struct.unpack(order + "i", start)[0]: order for order in "<>"} if len(start) == 4 else {}
    size = next((size for size in sizes if size in _KINDS), None)
    if size is None:
        raise ImageFileError("not a NIfTI file (wrong header size)")
    block = start + stream.read(size - 4)
    if len(block) < size:
        raise ImageFileError("truncated inside the header")
    header = _KINDS[size](block, endianness=sizes[size], check=False)
    magic = header["magic"].item()
    if magic == header.pair_magic:
        raise ImageFileError("this is the header of a pair of files (.hdr and .img); convert it to one .nii.gz")
    if magic != header.single_magic:
        raise ImageFileError(f"not a NIfTI file (magic string {magic.decode('latin1')!r}); is it ANALYZE 7.5?")
    if size == 540 and header["eol_check"].any() and header["eol_check"].tolist() != [13, 10, 26, 10]:
        raise ImageFileError("damaged: its line ends were converted as if it were text")
    return header, sizes[size]


def _shape(header: Any) -> tuple[Shape, int]:
    """Voxels along the spatial axes, and the entries of the one further axis that has more than one."""
    axes, *sizes = map(int, header["dim"])
    if not 1 <= axes <= 7:
        raise ImageFileError(f"bad header: dim[0] must be 1 to 7, got {axes}")
    spatial, further = sizes[: min(axes, 3)], sizes[3:axes]
    if len(spatial) == 1 or min(spatial) < 1 or min(further, default=0) < 0:
        raise GeometryError(f"expected 2 or 3 axes of at least one voxel, got dim {sizes[:axes]}")
    series = [size for size in further if size > 1]  # the standard's library counts a size of 0 as 1
    if len(series) > 1:
        raise GeometryError(f"expected 2, 3 or 4 axes of more than one entry, got dim {sizes[:axes]}")
    return tuple(spatial), (series or [1])[0]


def _dtype(header: Any) -> np.dtype[Any]:
    code = int(header["datatype"])
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except KeyError as error:
        raise ImageFileError(f"bad header: NIfTI has no voxels of type {code}") from error
    if dtype.kind == "c":
        raise ImageFileError(f"complex voxels ({dtype}) are not supported")
    if dtype.itemsize == 0 or (dtype.kind == "V" and not dtype.names):
        raise ImageFileError(f"voxels of type {code} are not supported")
    return dtype


def _offset(header: Any, stream: BinaryIO, order: str) -> tuple[int, bool]:
    """The byte at which voxels begin, and whether header and extensions leave no doubt about it."""
    stated, least = float(header["vox_offset"]), header.single_vox_offset
    if not (stated == 0 or least <= stated <= MOST_BESIDE) or stated != int(stated):
        raise ImageFileError(f"bad header: voxels cannot begin at byte {stated:g}")
    extended = stream.read(4)[:1] not in (b"", b"\0")
    if stated == 0 and extended:
        raise ImageFileError("bad header: it has extensions, but does not say where voxels begin")
    return int(stated) or least, stated != 0 and not (extended and _overrun(stream, order, int(stated) - least))


def _overrun(stream: BinaryIO, order: str, room: int) -> bool:
    """Whether the extensions do not fit in front of the voxels."""
    if room == 0:
        return True
    while room >= 8:
        size = struct.unpack(order + "i", stream.read(8)[:4].ljust(4, b"\0"))[0]
        if size < 8 or size > room:
            return True
        stream.read(size - 8)
        room -= size
    return False


def _unit(header: Any, notes: list[str]) -> Unit:
    code = int(header["xyzt_units"]) & 7
    if code not in _UNITS:
        notes.append(f"the header's unit of length has the unknown code {code}; lengths are taken as mm")
    return _UNITS.get(code, "mm")


def _scale(header: Any) -> Scale | None:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope) or (slope, intercept) == (1.0, 0.0):
        return None
    if not np.isfinite(intercept):
        raise ImageFileError(f"bad header: scl_slope is {slope:g}, but scl_inter is {intercept}")
    return slope, intercept


def _affine(header: Any, shape: Shape, notes: list[str]) -> NDArray[np.float64]:
    """The affine of a usable sform, else the qform's, else one made of the spacing alone, in the header's unit."""
    spacing = _repair_pixdim(header)
    has_sform, has_qform = header["sform_code"] > 0, header["qform_code"] > 0
    if has_sform and (fault := _fault_of_sform(header.get_sform(), shape, spacing)):
        if not has_qform:
            raise GeometryError(f"the sform {fault}, and there is no qform")
        has_sform = False
        notes.append(f"the header's sform {fault}; the qform is taken")
    if not has_sform:
        if any(size == 0 and count > 1 for size, count in zip(spacing, shape, strict=False)):
            raise GeometryError(f"voxel spacing must be positive, got {spacing.tolist()}")
        return _qform(header) if has_qform else _finite(header.get_base_affine())
    affine = _with_flat_axis(_finite(header.get_sform()), shape, spacing)
    _compare(header, affine, shape, spacing, notes)
    return affine


def _fault_of_sform(sform: NDArray[Any], shape: Shape, spacing: NDArray[np.float64]) -> str:
    """What makes an sform no affine of a grid; empty where it is one."""
    if not sform[:3].any():
        return "is all zero"
    if not (np.abs(sform) < _FARTHEST).all():
        return "is not finite"
    try:
        Grid.of(shape, _with_flat_axis(_finite(sform), shape, spacing))
    except GeometryError:
        return "has an axis without length, or two that run the same way"
    return ""


def _repair_pixdim(header: Any) -> NDArray[np.float64]:
    """Take negative and zero sizes out of the header's ``pixdim``, and return the size of a voxel that it stated."""
    stated: NDArray[np.float64] = np.abs(header["pixdim"][1:4].astype(np.float64))
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    header["pixdim"][1:4] = np.where(stated == 0, 1, stated)
    return stated


def _qform(header: Any) -> NDArray[np.float64]:
    length = hypot(*(float(header[f"quatern_{part}"]) for part in "bcd"))
    if not length <= 1 + _QUATERNION_EXCESS:
        raise GeometryError(f"the qform is invalid: the length of its quaternion is {length:g}, more than 1")
    if length > 1:
        for part in "bcd":
            header[f"quatern_{part}"] /= length
    return _finite(header.get_qform())


def _finite(affine: NDArray[Any]) -> NDArray[np.float64]:
    if not (np.abs(affine) < _FARTHEST).all():
        raise GeometryError(f"expected a finite 4x4 affine, got {affine.tolist()}")
    return affine.astype(np.float64)


def _with_flat_axis(affine: NDArray[np.float64], shape: Shape, spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Let an axis of a single voxel whose column is zero run along the normal of the other two."""
    flat = [axis for axis in range(3) if not affine[:3, axis].any()]
    if len(flat) == 1 and (*shape, 1)[flat[0]] == 1:
        axis = flat[0]
        normal = np.cross(affine[:3, (axis + 1) % 3], affine[:3, (axis + 2) % 3])
        length = np.linalg.norm(normal)
        if length > 0:
            affine[:3, axis] = normal / length * (spacing[axis] or 1)
    return affine


def _compare(
    header: Any, affine: NDArray[np.float64], shape: Shape, spacing: NDArray[np.float64], notes: list[str]
) -> None:
    """Note where the sform contradicts the spacing, or a qform that means the same space."""
    axes = [axis for axis, count in enumerate(shape) if count > 1 and 0 < spacing[axis] < _FARTHEST]
    sizes = np.linalg.norm(affine[:3], axis=0)
    if not np.allclose(sizes[axes], spacing[axes], rtol=_SPACING_DIFFERS, atol=0):
        found, stated = (" x ".join(f"{one:.4g}" for one in values[: len(shape)]) for values in (sizes, spacing))
        notes.append(f"the header's sform has voxels of {found}, its pixdim says {stated}; the sform is taken")
        return
    if header["sform_code"] != header["qform_code"]:
        return  # two spaces, such as the scanner's and a template's
    try:
        other = _with_flat_axis(_qform(header), shape, spacing)
        moved = np.linalg.norm((other - affine)[:3], axis=0)
        steps = [*(count - 1 for count in shape), *[0] * (3 - len(shape)), 1]
        if moved @ steps <= _PLACE_DIFFERS * sizes[: len(shape)].min():
            return  # not even the sum of what each axis moves a corner by
        ours, theirs = (Grid.of(shape, one) for one in (affine, other))
    except GeometryError:
        return
    apart = ours.difference_mm(theirs) / min(ours.spacing_mm)
    if apart > _PLACE_DIFFERS:
        notes.append(f"the header's sform and qform lie up to {apart:.3g} voxels apart; the sform is taken")
