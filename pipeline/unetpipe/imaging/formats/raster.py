"""Two-dimensional pictures (PNG, JPEG, TIFF): the only module that knows Pillow.

Axis I runs along columns (x), J along rows (y), one pixel is 1 mm; MONAI's PILReader has it so too.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from unetpipe.errors import ImageFileError
from unetpipe.files import atomic_path
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.volume import Volume

_AS_STORED = ("L", "P", "I", "I;16", "I;16L", "I;16B", "F", "RGB")  # P: palette indices, which label files use
_CONVERTED = {"1": "L", "LA": "L", "La": "L", "PA": "P", "RGBA": "RGB", "RGBa": "RGB", "RGBX": "RGB", "CMYK": "RGB"}
_LABEL_SUFFIXES = (".png", ".tif", ".tiff")
_DAMAGE = (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError)


def read(path: Path) -> Volume:
    """Read a picture of one (grey, palette) or three (RGB) channels; alpha is dropped."""
    with _open(path) as picture:
        channels, grid = _channels_and_grid(picture, path)
        try:
            converted = picture if picture.mode in _AS_STORED else picture.convert(_CONVERTED[picture.mode])
            array = np.asarray(converted)
        except _DAMAGE as error:
            raise ImageFileError(f"{path.name}: damaged or truncated") from error
        if picture.mode == "1":
            array = (array > 0).astype(np.uint8)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return Volume(array.reshape(*reversed(grid.shape), channels).transpose(2, 1, 0), grid)


def read_grid(path: Path) -> tuple[int, Grid]:
    """Number of channels and grid, from the header."""
    with _open(path) as picture:
        return _channels_and_grid(picture, path)


def write(path: Path, array: NDArray[Any], grid: Grid, names: Mapping[int, str] | None = None) -> None:
    """Write (C, I, J); the grid's affine is lost, because these formats have none."""
    if names is not None and path.suffix.lower() not in _LABEL_SUFFIXES:
        raise ImageFileError(f"{path.name}: labels must not be compressed with loss; choose .png")
    if grid.ndim != 2 or len(array) not in (1, 3):
        raise ImageFileError(f"{path.name}: cannot hold {len(array)} channels of shape {grid.shape}")
    pixels = np.ascontiguousarray(array[0].T if len(array) == 1 else array.transpose(2, 1, 0))
    options: dict[str, Any] = {}
    if names and path.suffix.lower() == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("labels", json.dumps({str(value): name for value, name in names.items()}))
    with atomic_path(path) as temporary:
        try:
            Image.fromarray(pixels).save(temporary, **options)
        except (OSError, TypeError, KeyError, ValueError) as error:
            raise ImageFileError(f"{path.name}: cannot hold voxels of type {array.dtype}") from error


def _open(path: Path) -> Any:
    try:
        return Image.open(path)
    except _DAMAGE as error:
        raise ImageFileError(f"{path.name}: not a readable picture") from error


def _channels_and_grid(picture: Any, path: Path) -> tuple[int, Grid]:
    if getattr(picture, "n_frames", 1) > 1:
        raise ImageFileError(f"{path.name}: expected one picture, got {picture.n_frames} pages")
    mode = _CONVERTED.get(picture.mode, picture.mode)
    if mode not in _AS_STORED:
        raise ImageFileError(f"{path.name}: colour mode {picture.mode} is not supported")
    if mode == "RGB" and any("16" in str(tile[3]) for tile in picture.tile):
        raise ImageFileError(f"{path.name}: colour of 16 bits per channel would lose half of them")
    return (3 if mode == "RGB" else 1), Grid.of(picture.size, np.eye(4))
