"""Pictures in PNG and JPEG, read as viewers show them.

Axis I runs along columns (x), J along rows (y); MONAI's PILReader has it so too. The files state no lengths: a pixel
counts as 1 mm.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, PngImagePlugin

from unetpipe.errors import ImageFileError
from unetpipe.files import atomic_path
from unetpipe.imaging.formats.pictures import ORIENTATION, TURNED, as_shown, colours_of, painted, refuse_huge
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.size_limit import refuse_beyond_limit
from unetpipe.imaging.volume import Volume

_CHANNELS = {"1": 1, "L": 1, "LA": 1, "I": 1, "I;16": 1, "I;16B": 1, "RGB": 3, "RGBA": 3, "CMYK": 3}
_CONVERTED = {"LA": "L", "RGBA": "RGB", "CMYK": "RGB"}  # alpha is dropped
_SCALED = {"L;2": 85, "L;4": 17}  # grey of 2 and 4 bits, which Pillow spreads over 8
_PNG = ".png"


def read(path: Path) -> Volume:
    """Read a picture of one channel, or of three where it is in colour.

    Indices of a colour table become its colours, or its greys where it has no others.
    """
    return _read(path, as_label=False)


def read_label(path: Path) -> Volume:
    """Read a label map: indices of a colour table are its values.

    Raises:
        ImageFileError: If the format compresses with loss.
    """
    if path.suffix.lower() != _PNG:
        raise ImageFileError(f"{path.name}: labels stored with loss (JPEG), which invents values; PNG keeps them")
    return _read(path, as_label=True)


def read_grid(path: Path) -> tuple[int, Grid]:
    """Number of channels as an image, and grid, from the header."""
    with _opened(path) as picture:
        channels = _colour_table(picture).shape[1] if picture.mode == "P" else _CHANNELS[picture.mode]
        return channels, _grid(picture)


def write(path: Path, array: NDArray[Any], grid: Grid, names: Mapping[int, str] | None = None) -> None:
    """Write (C, I, J); the grid's affine is lost, because these formats have none."""
    png = path.suffix.lower() == _PNG
    if names is not None and not png:
        raise ImageFileError(f"{path.name}: labels must not be compressed with loss; choose .png")
    if grid.ndim != 2 or len(array) not in (1, 3):
        raise ImageFileError(f"{path.name}: cannot hold {len(array)} channels of shape {grid.shape}")
    pixels = np.ascontiguousarray(array[0].T if len(array) == 1 else array.transpose(2, 1, 0))
    options: dict[str, Any] = {}
    if names and png:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("labels", json.dumps({str(value): name for value, name in names.items()}))
    with atomic_path(path) as temporary:
        try:
            Image.fromarray(pixels).save(temporary, **options)
        except (OSError, TypeError, KeyError, ValueError) as error:
            raise ImageFileError(f"{path.name}: cannot hold voxels of type {array.dtype}") from error


def _read(path: Path, *, as_label: bool) -> Volume:
    if path.suffix.lower() == _PNG:
        with _opened(path) as picture:
            picture.verify()  # reads all checksums; decoding ignores them
    with _opened(path) as picture:
        scale = _SCALED.get(str(picture.tile[0][3]), 1) if as_label else 1  # forgotten once pixels are decoded
        pixels = np.asarray(picture.convert(_CONVERTED[picture.mode]) if picture.mode in _CONVERTED else picture)
        if picture.mode == "1":
            pixels = (pixels > 0).astype(np.uint8)
        pixels = (pixels // scale if scale > 1 else pixels).reshape(*pixels.shape[:2], -1)
        if picture.mode == "P" and not as_label:
            pixels = painted(pixels, _colour_table(picture))
        shown = as_shown(pixels, _orientation(picture))
        return Volume(shown.astype(shown.dtype.newbyteorder("="), copy=False).transpose(2, 1, 0), _grid(picture))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The picture, its header read; whatever Pillow finds wrong with it, also later, names the file."""
    kind = PngImagePlugin.PngImageFile if path.suffix.lower() == _PNG else JpegImagePlugin.JpegImageFile
    try:
        # Not Image.open: it warns of large pictures before they can be refused, and takes any format under any name.
        with path.open("rb") as file, kind(file) as picture:
            refuse_huge(*picture.size)
            refuse_beyond_limit(picture.size, len(picture.getbands()))
            _refuse_unreadable(picture)
            if kind.format == "PNG" and not {"exif", "Raw profile type exif"} & set(picture.info):
                picture.info["exif"] = _exif_chunk(file)  # Pillow would decode the pixels to look behind them
            yield picture
    except ImageFileError as error:
        raise ImageFileError(f"{path.name}: {error}") from error
    except Exception as error:  # Pillow raises many kinds where bytes of a file contradict each other
        raise ImageFileError(f"{path.name}: damaged, truncated, or no {kind.format}") from error


def _refuse_unreadable(picture: Any) -> None:
    if (frames := getattr(picture, "n_frames", 1)) > 1:
        raise ImageFileError(f"expected one picture, got {frames} that follow each other")
    if picture.mode != "P" and picture.mode not in _CHANNELS:
        raise ImageFileError(f"colour mode {picture.mode} is not supported")
    deep = any("16B" in str(tile[3]) for tile in picture.tile)
    if deep and not picture.mode.startswith("I"):
        raise ImageFileError("colour or alpha of 16 bits per channel would lose half of them; choose .tif")


def _exif_chunk(file: BinaryIO) -> bytes:
    """The EXIF chunk of a PNG file, wherever it stands; empty where there is none. The file stays where it is."""
    position, found = file.tell(), b""
    file.seek(8)
    while not found and len(head := file.read(8)) == 8:
        size = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            found = file.read(size)
        file.seek(size + 4, os.SEEK_CUR)
    file.seek(position)
    return found


def _colour_table(picture: Any) -> NDArray[np.uint8]:
    return colours_of(np.frombuffer(picture.palette.palette, np.uint8).reshape(-1, 3))


def _orientation(picture: Any) -> int:
    return int(picture.getexif().get(ORIENTATION, 1))


def _grid(picture: Any) -> Grid:
    turned = _orientation(picture) in TURNED
    return Grid.of(picture.size[::-1] if turned else picture.size, np.eye(4), "voxel")
