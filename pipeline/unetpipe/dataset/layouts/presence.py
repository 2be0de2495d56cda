"""Whether a file that a dataset names is there, and what to say where it is not.

Stores of data by content (Hugging Face, DVC, git-annex, DataLad) put links, or small text files, in place of files. A
link's own name and folder count, never those of what it points to. What was not fetched is said to be so.
"""

import os
import stat
import unicodedata
from functools import lru_cache
from pathlib import Path

from unetpipe.imaging.formats.signatures import LENGTH, pointer

_LONGEST_POINTER = 1024  # bytes


def as_on_disk(path: Path) -> Path:
    """The path as the file system has it, where a list that was made elsewhere writes it in another way.

    macOS decomposes letters that other systems compose, Windows separates folders by backslashes, and to both
    ``a.nii.gz`` and ``a.NII.GZ`` are one file: a name that differs in letter case only is taken if it is the only one.
    """
    if _exists(path):
        return path
    texts = (str(path), str(path).replace("\\", "/"))
    others = [Path(unicodedata.normalize(form, text)) for text in texts for form in ("NFC", "NFD")]
    found = next((other for other in others if _exists(other)), None)
    if found is None:
        alike = (other.with_name(name) for other in others if (name := _alike(other)) is not None)
        found = next(alike, None)
    return path if found is None else found


def absence(path: Path) -> str | None:
    """Why a file or folder cannot be read, as the end of a sentence; None where it is there."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8: rename the file"
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        broken = next((one for one in (path, *path.parents) if one.is_symlink() and not _exists(one)), None)
        if broken is None:
            return "does not exist"
        place = "is" if broken == path else "lies in"
        return f"{place} a link to something that is not there: has it been fetched?"  # whose path may name a patient
    except (OSError, ValueError) as error:
        return f"cannot be reached: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISREG(found.st_mode) and found.st_size <= _LONGEST_POINTER:
        try:
            with path.open("rb") as file:
                what = pointer(file.read(LENGTH))
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return what and f"is {what}"
    return None


def has_name(path: Path) -> bool:
    """Whether a folder holds this name, be it of a link to something that is not there."""
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _alike(path: Path) -> str | None:
    """The name in a path's folder that differs from the path's in letter case only, if there is one such name."""
    try:
        names = _by_letters(path.parent, path.parent.stat().st_mtime_ns).get(_letters(path.name), [])
    except (OSError, ValueError):
        return None
    return names[0] if len(names) == 1 else None


@lru_cache(maxsize=16)
def _by_letters(folder: Path, _changed_ns: int) -> dict[str, list[str]]:
    """Names in a folder by their letters; it is listed once until it changes, as lists name thousands of its files."""
    found: dict[str, list[str]] = {}
    for name in os.listdir(folder):  # noqa: PTH208 - names only
        found.setdefault(_letters(name), []).append(name)
    return found


def _letters(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True
