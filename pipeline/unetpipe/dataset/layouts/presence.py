"""Whether a file that a dataset names is there, and what to say where it is not.

Stores of data by content (Hugging Face, DVC, git-annex, DataLad) put links, or small text files, in place of files. A
link's own name and folder count, never those of what it points to. What was not fetched is said to be so.
"""

import stat
import unicodedata
from pathlib import Path

from unetpipe.imaging.formats.signatures import LENGTH, pointer

_LONGEST_POINTER = 1024  # bytes


def as_on_disk(path: Path) -> Path:
    """The path as the file system has it, where a list that was made elsewhere writes it in another way.

    macOS decomposes letters that other systems compose, and Windows separates folders by backslashes.
    """
    if _exists(path):
        return path
    texts = (str(path), str(path).replace("\\", "/"))
    others = (Path(unicodedata.normalize(form, text)) for text in texts for form in ("NFC", "NFD"))
    return next((other for other in others if _exists(other)), path)


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


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True
