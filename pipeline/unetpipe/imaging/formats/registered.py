"""Files that an extension reads: a reader is registered under the suffix of its files, such as ``.img3``.

It is asked before the package's own formats, so that it may also take the place of one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from unetpipe.components import build, first_line, registered
from unetpipe.errors import ComponentError, ImageFileError, UnetpipeError
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.volume import Volume

Read = TypeVar("Read")


class Reader(Protocol):
    """The protocol of a reader: a class without arguments, whose instances are called from several threads at once."""

    def read(self, path: Path) -> Volume:
        """Read a whole file: the array (C, I, J[, K]) as the file has it, and the grid of its spatial axes."""

    def read_grid(self, path: Path) -> tuple[int, Grid]:
        """Number of channels and grid, without reading the voxels where the format allows it."""


def reader_suffixes() -> tuple[str, ...]:
    """Suffixes that readers are registered for.

    Raises:
        ComponentError: If a registered name is no suffix in lower case with its leading dot.
    """
    suffixes = registered("reader")
    for suffix in suffixes:
        if not suffix.startswith(".") or suffix != suffix.lower() or len(suffix) < 2:
            raise ComponentError(
                f"a reader is registered under a suffix in small letters, such as .img3, got {suffix!r}"
            )
    return suffixes


class RegisteredFormat:
    """A registered reader as a format of `imaging.files`: what it gives is checked, how it fails is one line.

    Args:
        suffix: Suffix of its files.
    """

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._reader: Reader = build("reader", suffix)
        for method in ("read", "read_grid"):
            if not callable(getattr(self._reader, method, None)):
                raise ComponentError(f"the reader of {suffix} files has no method {method}")

    def read(self, path: Path) -> Volume:
        """Read a whole file.

        Raises:
            ImageFileError: If the reader fails, or its array and grid do not fit each other.
        """
        volume = self._ask(path, self._reader.read)
        if not isinstance(volume, Volume):
            raise ImageFileError(f"{path.name}: the reader of {self._suffix} gives no Volume")
        if volume.array.shape[1:] != volume.grid.shape:
            raise ImageFileError(
                f"{path.name}: the reader of {self._suffix} gives an array of shape {volume.array.shape} with a grid "
                f"of shape {volume.grid.shape}; channels come first"
            )
        return volume

    def read_grid(self, path: Path) -> tuple[int, Grid]:
        """Number of channels and grid.

        Raises:
            ImageFileError: If the reader fails, or gives something else.
        """
        found = self._ask(path, self._reader.read_grid)
        if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], Grid):
            raise ImageFileError(f"{path.name}: the reader of {self._suffix} gives no number of channels with a Grid")
        return found

    def write(self, path: Path, *_: object) -> None:
        """Refuse: a registered format is only read."""
        raise ImageFileError(f"{path.name}: {self._suffix} files are read by an extension and not written")

    def _ask(self, path: Path, read: Callable[[Path], Read]) -> Read:
        try:
            return read(path)
        except UnetpipeError:
            raise
        except Exception as error:  # of foreign code
            raise ImageFileError(f"{path.name}: the reader of {self._suffix} fails: {first_line(error)}") from error
