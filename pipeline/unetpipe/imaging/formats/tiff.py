"""TIFF: pictures, and stacks of pages as volumes, by what their tags state.

Axis I runs along columns (x), J along rows (y), K along pages or along the z axis that OME or ImageJ describes. Lengths
are those that OME or ImageJ state. The resolution of a plain file is one of printing: it states no lengths, and a voxel
counts as 1 mm.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPage, TiffPageSeries

from unetpipe.errors import GeometryError, ImageFileError, listed
from unetpipe.files import atomic_path
from unetpipe.imaging.formats import libtiff
from unetpipe.imaging.formats.pictures import ORIENTATION, TURNED, as_shown, colours_of, painted, refuse_huge
from unetpipe.imaging.formats.scale import Scale, scaled
from unetpipe.imaging.formats.tiff_lengths import UNIT_NAMES, Lengths, read_lengths
from unetpipe.imaging.geometry import MM_PER_UNIT, Grid
from unetpipe.imaging.size_limit import refuse_beyond_limit
from unetpipe.imaging.volume import Volume
from unetpipe.process_setting import ProcessSetting

_log = logging.getLogger("tifffile")
# It logs several lines about a damaged file, which go to standard error where no handler is installed.
_without_log = ProcessSetting(lambda: _log.disabled, partial(setattr, _log, "disabled"), True)
_SLICES = "ZIQ"  # z, or pages of which nothing else is said
_BITS = (1, 2, 4, 8, 16, 32, 64)
_LOSSLESS = (
    COMPRESSION.NONE,
    COMPRESSION.LZW,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.PACKBITS,
    COMPRESSION.LZMA,
    COMPRESSION.ZSTD,
    COMPRESSION.CCITTRLE,
    COMPRESSION.CCITT_T4,
    COMPRESSION.CCITT_T6,
)
_EXPANSION: dict[int, int] = {
    COMPRESSION.NONE: 1,
    COMPRESSION.ADOBE_DEFLATE: 1100,
    COMPRESSION.DEFLATE: 1100,
    COMPRESSION.LZW: 3000,
}
_MOST_EXPANSION = 100_000
"""Greatest number of bytes that one stored byte decodes to, for every other compression."""
_GREY = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MASK)
_COLOURS = (PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE, PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR)
_ALPHA = (1, 2)  # extra samples that are associated or unassociated alpha


def read(path: Path) -> Volume:
    """Read an image as viewers show it: colours instead of the indices of a colour table, and without alpha."""
    return _read(path, as_label=False)


def read_label(path: Path) -> Volume:
    """Read a label map: the numbers that are stored are its values.

    Raises:
        ImageFileError: If the file is compressed with loss.
    """
    return _read(path, as_label=True)


def read_grid(path: Path) -> tuple[int, Grid]:
    """Number of channels as an image, and grid, from the tags."""
    with _opened(path) as (series, lengths):
        page = series.keyframe
        if page.photometric == PHOTOMETRIC.PALETTE:
            samples = _colour_table(page).shape[1]
        else:
            samples = 3 if page.photometric == PHOTOMETRIC.SEPARATED else _without_alpha(page)
        return samples * _sizes(series).get("C", 1), _grid(series, lengths)


def write(path: Path, array: NDArray[Any], grid: Grid, names: Mapping[int, str] | None = None) -> None:
    """Write (C, *spatial): as OME-TIFF where there are lengths, slices or channels to state, else as a picture."""
    pixels = array.transpose(0, *range(grid.ndim, 0, -1))  # (C, [Z,] Y, X)
    colour = len(array) == 3 and array.dtype == np.uint8
    pixels = np.moveaxis(pixels, 0, -1) if colour else pixels
    plain = grid.ndim == 2 and grid.unit == "voxel" and (colour or len(array) == 1)
    labels = json.dumps({"labels": {str(value): name for value, name in names.items()}}) if names else None
    metadata: dict[str, Any] | None = None
    if plain:
        pixels = pixels if colour else pixels[0]
    else:
        metadata = {"axes": ("" if colour else "C") + "ZYX"[-grid.ndim :] + ("S" if colour else "")}
        metadata |= {"Description": labels} if labels else {}
        metadata["UUID"] = str(UUID(bytes=sha256(pixels.tobytes()).digest()[:16]))  # else of the machine and the time
        if grid.unit != "voxel":
            unit = grid.unit if grid.unit in UNIT_NAMES else "mm"
            for axis, spacing_mm in zip("XYZ", grid.spacing_mm, strict=False):
                metadata[f"PhysicalSize{axis}"] = spacing_mm / MM_PER_UNIT[unit]
                metadata[f"PhysicalSize{axis}Unit"] = UNIT_NAMES[unit]
    with atomic_path(path) as temporary:
        try:
            tifffile.imwrite(
                temporary,
                pixels,
                ome=not plain,
                photometric="rgb" if colour else "minisblack",
                compression="zlib",
                software=False,
                metadata=metadata,
                description=labels if plain else None,
            )
        except (ValueError, TypeError, KeyError, tifffile.OmeXmlError) as error:
            raise ImageFileError(f"{path.name}: cannot hold voxels of type {array.dtype}") from error


def _read(path: Path, *, as_label: bool) -> Volume:
    with _opened(path) as (series, lengths):
        page = series.keyframe
        if as_label and page.compression not in _LOSSLESS:
            raise ImageFileError(
                f"labels stored with loss ({COMPRESSION(page.compression).name}), which invents values"
            )
        stored = _stored(series)
        values = stored[..., : _without_alpha(page)] if as_label else _seen(stored, page)
        values = as_shown(values, _orientation(page)).transpose(0, 4, 3, 2, 1)  # (C, S, X, Y, Z)
        grid = _grid(series, lengths)
        return Volume(scaled(values.reshape(-1, *grid.shape), _calibration(series)), grid, notes=lengths.notes)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[TiffPageSeries, Lengths]]:
    """The one picture or stack of a file, checked, and the size of its voxels; errors name the file."""
    try:
        with _without_log, TiffFile(path) as file:
            series = _only_series(file)
            _refuse_unreadable(series)
            yield series, read_lengths(file, slices=_slices(series) is not None)
    except ImageFileError as error:
        raise ImageFileError(f"{path.name}: {error}") from error
    except GeometryError:
        raise
    except Exception as error:  # tifffile and Pillow raise many kinds where bytes of a file contradict each other
        raise ImageFileError(f"{path.name}: damaged, truncated, or no TIFF") from error


def _only_series(file: TiffFile) -> TiffPageSeries:
    whole = [one for one in file.series if not (one.keyframe.is_reduced or one.keyframe.is_mask)]
    if len(whole) != 1:
        sizes = listed(["x".join(map(str, one.shape)) for one in whole], 5)
        raise ImageFileError(f"expected one picture or one stack of equal pages, got {len(whole)} ({sizes})")
    return whole[0]


def _refuse_unreadable(series: TiffPageSeries) -> None:
    """What cannot be read whole, or would not be what it seems."""
    page = series.keyframe
    refuse_huge(page.imagewidth, page.imagelength)
    refuse_beyond_limit(series.shape)
    there, size = page.parent.filehandle.size, prod(series.shape) * page.bitspersample // 8
    if size > there * _EXPANSION.get(page.compression, _MOST_EXPANSION):  # do not even try to allocate
        raise ImageFileError(f"truncated: {there} bytes cannot hold {size} of voxels")
    further = {axis: size for axis, size in _sizes(series).items() if axis not in f"{_SLICES}CYXS" and size > 1}
    if further or len(set(_SLICES) & set(series.axes)) > 1 or len(set(series.axes)) < len(series.axes):
        shape = "x".join(map(str, series.shape))
        raise ImageFileError(f"expected columns, rows, slices and channels, got {shape} along {series.axes}")
    if any(one is None or one.parent is not page.parent for one in series.pages):
        raise ImageFileError("some of its planes are missing, or in other files")
    if any(not all(one.dataoffsets) or not all(one.databytecounts) for one in series.pages if one is not None):
        raise ImageFileError("damaged: strips or tiles are missing")
    if any(count > there for one in series.pages if one is not None for count in one.databytecounts):
        raise ImageFileError(f"damaged: a strip or tile of more than the {there} bytes of the file")
    if page.photometric not in (*_GREY, *_COLOURS):
        raise ImageFileError(f"colours of the kind {page.photometric!r} are not supported")
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG:
        raise ImageFileError("colours of the kind YCbCr are supported in JPEG compression only")
    if page.photometric == PHOTOMETRIC.SEPARATED and _without_alpha(page) != 4:
        raise ImageFileError(f"{_without_alpha(page)} inks are not supported; expected the four of CMYK")
    if page.compression not in (*_LOSSLESS, COMPRESSION.JPEG):
        raise ImageFileError(f"compression {page.compression!r} is not supported")
    if page.predictor not in (1, 2) or page.bitspersample not in _BITS or page.dtype is None or page.dtype.kind == "c":
        kind = f"{page.bitspersample} bits of sample format {page.sampleformat}, predictor {page.predictor}"
        raise ImageFileError(f"voxels of {kind} are not supported")


def _sizes(series: TiffPageSeries) -> dict[str, int]:
    return dict(zip(series.axes, series.shape, strict=True))


def _slices(series: TiffPageSeries) -> str | None:
    """The axis of the slices, if there are any."""
    return next((axis for axis in _SLICES if axis in series.axes), None)


def _without_alpha(page: TiffPage) -> int:
    """Samples of a pixel that are no alpha."""
    return page.samplesperpixel - sum(one in _ALPHA for one in page.extrasamples)


def _orientation(page: TiffPage) -> int:
    return int(page.tags.valueof(ORIENTATION, default=1))


def _calibration(series: TiffPageSeries) -> Scale | None:
    """ImageJ's straight line from numbers to values, by which it stores negative ones; None where there is none."""
    stated = series.parent.imagej_metadata if series.parent is not None else None
    if not stated or stated.get("cf") != 0:
        return None
    return float(stated.get("c1", 1)), float(stated.get("c0", 0))


def _grid(series: TiffPageSeries, lengths: Lengths) -> Grid:
    sizes, axis = _sizes(series), _slices(series)
    shape, spacing = [sizes["X"], sizes["Y"]], list(lengths.spacing_mm)
    if _orientation(series.keyframe) in TURNED:
        shape.reverse()
        spacing[:2] = spacing[1::-1]
    return Grid.of([*shape, *([] if axis is None else [sizes[axis]])], np.diag([*spacing, 1.0]), lengths.unit)


def _stored(series: TiffPageSeries) -> NDArray[Any]:
    """The numbers that a file holds, (channels, slices, rows, columns, samples)."""
    page = series.keyframe
    if page.compression in libtiff.COMPRESSIONS or page.bitspersample in (2, 4):
        array = libtiff.decoded(series)
    else:
        array = series.asarray(maxworkers=1)
    sizes = _sizes(series)
    wanted = ("C", _slices(series) or "Z", "Y", "X", "S")
    array = array.view(np.uint8) if array.dtype == np.bool_ else array
    array = array.transpose([series.axes.index(axis) for axis in wanted if axis in sizes])
    return array.reshape([sizes.get(axis, 1) for axis in wanted])


def _seen(stored: NDArray[Any], page: TiffPage) -> NDArray[Any]:
    """Intensities or colours of stored numbers, (channels, slices, rows, columns, 1 or more)."""
    if page.photometric == PHOTOMETRIC.PALETTE:
        return painted(stored[..., :1], _colour_table(page))
    values = stored[..., : _without_alpha(page)]
    if values.dtype.kind != "u":
        return values
    full = (1 << page.bitspersample) - 1
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        values = np.subtract(full, values, dtype=values.dtype)
    if page.photometric == PHOTOMETRIC.SEPARATED:
        light = 1 - values / np.float32(full)
        values = np.rint(light[..., :3] * light[..., 3:] * full).astype(values.dtype)
    return values


def _colour_table(page: TiffPage) -> NDArray[np.uint8]:
    """Colours of a palette in 8 bits; a table without any value above 255 has them so already, as libtiff takes it."""
    table = page.colormap
    if table is None:
        raise ImageFileError("damaged: its colour table is missing")
    return colours_of((table if table.max() < 256 else table >> 8).astype(np.uint8).T)
