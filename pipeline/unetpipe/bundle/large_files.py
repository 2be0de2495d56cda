"""`large_files.yml`: the files of a bundle that the Model Zoo keeps outside of its repository, in the Zoo's form."""

import hashlib
from pathlib import Path

import yaml

from unetpipe.bundle.archive import PARTS
from unetpipe.documents import Record
from unetpipe.files import write_text
from unetpipe.yaml_text import read_yaml

LARGE_FILES = "large_files.yml"
_LARGEST = 25 * 10**6  # bytes of a file in the Zoo's repository


class LargeFile(Record):
    """One file.

    Attributes:
        path: Path in the bundle.
        url: Where it can be downloaded; empty until somebody has put it there.
        hash_val: SHA-256 of the file.
        hash_type: Kind of the hash.
    """

    path: str
    url: str = ""
    hash_val: str
    hash_type: str = "sha256"


def large_files(folder: Path) -> list[LargeFile]:
    """The files of a bundle that are too large, without addresses."""
    inside = (path for name in ("models", PARTS) for path in (folder / name).rglob("*"))
    found = sorted(path for path in inside if path.is_file() and path.stat().st_size > _LARGEST)
    return [LargeFile(path=path.relative_to(folder).as_posix(), hash_val=_sha256(path)) for path in found]


def listed_urls(folder: Path) -> dict[tuple[str, str], str]:
    """The address of each file that a bundle lists, by its path and hash; none where there is no list of this form."""
    try:
        listed = read_yaml(folder / LARGE_FILES)
        return {(one["path"], one["hash_val"]): str(one.get("url") or "") for one in listed["large_files"]}
    except (ValueError, KeyError, TypeError):
        return {}


def write_large_files(folder: Path) -> None:
    """List the files that are too large; no list where none is. An address stays that of a file as long as its hash.

    A list that is right is not written: the bundle may lie where nothing can be.
    """
    found = large_files(folder)
    if not found:
        if (folder / LARGE_FILES).is_file():
            (folder / LARGE_FILES).unlink()
        return
    urls = listed_urls(folder)
    known = [one.model_copy(update={"url": urls.get((one.path, one.hash_val), "")}) for one in found]
    content = yaml.safe_dump({"large_files": [one.model_dump() for one in known]}, sort_keys=False)
    if not (folder / LARGE_FILES).is_file() or (folder / LARGE_FILES).read_bytes() != content.encode():
        write_text(folder / LARGE_FILES, content)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
