"""The files of a bundle, in a folder or a zip, read into memory within limits.

A bundle may come from anybody: nothing is unpacked, and a file that would fill the memory is refused before it is read.
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from unetpipe.components import first_line
from unetpipe.errors import BundleError
from unetpipe.yaml_text import YamlError, parse_yaml
from unetpipe.zips import open_zip

METADATA = "configs/metadata.json"
PARTS = "parts"
"""Folder of a bundle that holds other bundles."""
Reader = Callable[[str], bytes]
"""Gives the content of a file of the bundle, by its path in it; raises BundleError."""

_LARGEST_CONFIG = 16 * 2**20  # bytes
_LARGEST_YAML = 2**18  # bytes: it is read a hundred times as slowly as JSON
_LARGEST_WEIGHTS = 2 * 2**30
_UNSUSPICIOUS = 16 * 2**20  # a file of this size may shrink as much as it likes: weights that are all 0 do
_MOST_SHRUNK = 20  # times; real weights shrink by a tenth
_DEEPEST_CONFIG = 100  # levels of nesting; a network of eight stages has 42
_LONGEST_TEXT = 200  # characters of a bundle's own that a message repeats


class MissingFileError(BundleError):
    """A bundle lacks a file."""


def shown(text: object) -> str:
    """A text out of a bundle as a message may repeat it: on one line, without control characters, cut if long."""
    printable = "".join(char if char.isprintable() else " " for char in str(text))
    return printable if len(printable) <= _LONGEST_TEXT else printable[:_LONGEST_TEXT] + "..."


def open_bundle(path: Path) -> Reader:
    """Open a reader of a bundle's folder, or of a zip that holds the bundle in its root or in one folder.

    Raises:
        BundleError: If a zip is damaged, holds no bundle or several, or has members that point outside or have the
            same name.
    """
    return _zip_reader(path) if path.is_file() else _folder_reader(path)


def within(read: Reader, folder: str) -> Reader:
    """Read from a folder of a bundle as from a bundle of its own."""
    return lambda member: read(f"{folder}/{member}")


def read_config(name: str, member: str, read: Reader) -> dict[str, Any]:
    """Read one config, JSON or by its name YAML.

    Args:
        name: Name of the bundle, for messages.
        member: Path of the file in the bundle.
        read: Reader of the bundle.

    Raises:
        BundleError: If it is missing, too large, no JSON or YAML, no object, or nested too deeply.
    """
    content = read(member)
    if member.endswith((".yaml", ".yml")):
        value = _yaml(name, member, content)
    else:
        try:
            value = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{name}: {member} is not JSON: {shown(first_line(error))}") from error
    if not isinstance(value, dict):
        raise BundleError(f"{name}: {member} must be an object")
    if next((True for _, depth in walk(value) if depth > _DEEPEST_CONFIG), False):
        raise BundleError(f"{name}: {member} is nested deeper than {_DEEPEST_CONFIG} levels")
    return value


def read_metadata(path: Path) -> dict[str, Any]:
    """A bundle's metadata, from its folder or zip.

    Raises:
        BundleError: If they are missing or damaged, or the zip holds no bundle.
    """
    return read_config(path.name.removesuffix(".zip"), METADATA, open_bundle(path))


def _yaml(name: str, member: str, content: bytes) -> Any:
    if len(content) > _LARGEST_YAML:
        raise BundleError(_too_large(name, member, len(content), _LARGEST_YAML))
    try:
        return parse_yaml(content)
    except YamlError as error:
        raise BundleError(f"{name}: {member} {shown(first_line(error))}") from error


def walk(value: Any) -> Iterator[tuple[Any, int]]:
    """Yield every object and list in a JSON or YAML value, each once, with its depth, without recursion."""
    pending, seen = [(value, 1)], set()
    while pending:
        one, depth = pending.pop()
        if not isinstance(one, dict | list) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one, depth
        pending += [(item, depth + 1) for item in (one.values() if isinstance(one, dict) else one)]


def require_plain_archive(name: str, member: str, content: bytes) -> None:
    """See that a file which PyTorch saved unpacks to no more than it seems to hold.

    PyTorch stores tensors without compression, but reads compressed ones too.

    Raises:
        BundleError: If it is no zip, as PyTorch's format is, or would grow.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except Exception as error:  # of whatever kind the damage is
        raise BundleError(
            f"{name}: {member} is damaged or holds more than tensors: it is no file of PyTorch's"
        ) from error
    if unpacked > len(content) + _UNSUSPICIOUS:
        raise BundleError(
            f"{name}: {member} would unpack to {unpacked / 2**20:.0f} MiB, {len(content) / 2**20:.0f} MiB large"
        )


def _too_large(name: str, member: str, size: int, most: int) -> str:
    return f"{name}: {member}: {size:,} bytes, more than the {most:,} that are read"


def _largest(member: str) -> int:
    return _LARGEST_WEIGHTS if PurePosixPath(member).parent.name == "models" else _LARGEST_CONFIG


def _folder_reader(folder: Path) -> Reader:
    def read(member: str) -> bytes:
        file = folder / member
        try:
            if not file.is_file():
                raise MissingFileError(f"{folder.name}: {member} is missing")
            if (size := file.stat().st_size) > _largest(member):
                raise BundleError(_too_large(folder.name, member, size, _largest(member)))
            return file.read_bytes()
        except OSError as error:
            raise BundleError(f"{folder.name}: {member} cannot be read: {error.strerror}") from error

    return read


def _zip_reader(path: Path) -> Reader:
    try:
        with open_zip(path, BundleError) as archive:
            names = archive.namelist()
    except BundleError as error:
        raise BundleError(f"{path.name}: not a readable zip: {error}") from error
    for name in names:
        if "\\" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BundleError(f"{path.name}: member {shown(name)!r} points outside the archive")
    if len(set(names)) < len(names):
        raise BundleError(f"{path.name}: several members have the same name")
    found = [name.removesuffix(METADATA) for name in names if name == METADATA or name.endswith("/" + METADATA)]
    outermost = min(found, key=len, default="")
    roots = [root for root in found if root == outermost or not root.startswith(f"{outermost}{PARTS}/")]
    if len(roots) != 1 or roots[0].count("/") > 1:
        raise BundleError(f"{path.name}: expected one bundle in the zip, found {len(roots)} {METADATA}")

    def read(member: str) -> bytes:
        try:
            with zipfile.ZipFile(path) as archive:
                entry = archive.getinfo(roots[0] + member)
                if entry.file_size > _largest(member):
                    raise BundleError(_too_large(path.name, member, entry.file_size, _largest(member)))
                if entry.file_size > max(_UNSUSPICIOUS, _MOST_SHRUNK * entry.compress_size):
                    shrunk = f"{entry.file_size:,} bytes in {entry.compress_size:,}"
                    raise BundleError(f"{path.name}: {member}: {shrunk}, more than {_MOST_SHRUNK} times as many")
                return archive.read(entry)
        except KeyError as error:
            raise MissingFileError(f"{path.name}: {member} is missing") from error
        except BundleError:
            raise
        except Exception as error:  # of whatever kind the damage is
            raise BundleError(f"{path.name}: {member} is damaged or encrypted") from error

    return read
