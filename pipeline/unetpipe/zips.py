"""Zips that anybody may have made: opened only where their list of members is of a plausible size."""

import zipfile
from pathlib import Path

from unetpipe.errors import UnetpipeError

MAX_LISTING = 1 << 25
"""Bytes of a zip's list of members, 32 MiB: some 300,000 files. Python takes ten times as much memory for it."""
_END, _END_64 = b"PK\5\6", b"PK\6\6"
_LONGEST_END = 22 + (1 << 16) + 20 + 56  # the record with its comment, and those of ZIP64 before it


def open_zip(path: Path, error: type[UnetpipeError]) -> zipfile.ZipFile:
    """Open a zip and read the list of its members.

    Args:
        path: A zip.
        error: Kind of error to raise.

    Raises:
        UnetpipeError: Of kind `error`, if the zip is damaged, or lists more files than `MAX_LISTING` holds.
    """
    try:
        if _listing_bytes(path) > MAX_LISTING:
            raise error(f"the zip lists more files than the {MAX_LISTING >> 20} MiB that are read of such a list hold")
        return zipfile.ZipFile(path)
    except UnetpipeError:
        raise
    except Exception as damage:  # zipfile raises many kinds where bytes contradict each other
        raise error("the zip is damaged") from damage


def _listing_bytes(path: Path) -> int:
    """Size that a zip states for the list of its members: the larger one where it is stated twice."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LONGEST_END))
        tail = file.read()
    stated = [0]
    for mark, offset, length in ((_END, 12, 4), (_END_64, 40, 8)):
        at = tail.rfind(mark)
        value = int.from_bytes(tail[at + offset : at + offset + length], "little") if at >= 0 else 0
        if value != (1 << 8 * length) - 1:  # which stands for what the other one says
            stated.append(value)
    return min(max(stated), size)
