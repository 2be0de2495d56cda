"""Zips of scans, unpacked for as long as they are needed."""

import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from unetpipe.errors import ImageFileError
from unetpipe.zips import open_zip

_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, ValueError)


def folders_of(archive: Path) -> set[PurePosixPath]:
    """The folders of a zip that hold files.

    Raises:
        ImageFileError: If the zip is damaged or lists too many files.
    """
    with open_zip(archive, ImageFileError) as packed:
        return {_path(member).parent for member in _files(packed)}


def unpack(archive: Path, scratch: Path) -> Path:
    """Unpack a zip into a new folder that is named after it, below a temporary one.

    Hidden files, and the resource forks that macOS adds, are left in the zip.

    Args:
        archive: A zip of image files.
        scratch: Temporary folder, which its owner removes.

    Returns:
        The new folder.

    Raises:
        ImageFileError: If the zip is damaged, encrypted, lists too many files or is larger than the disk, a member
            would lie outside it, or two have one name, as where letter case does not count.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch)) / archive.stem
    try:
        with open_zip(archive, ImageFileError) as packed:
            members = _files(packed)
            for member in members:
                _check(member)
            if sum(member.file_size for member in members) > shutil.disk_usage(scratch).free:
                raise ImageFileError("the zip holds more than the disk for temporary files")
            for member in members:
                if (folder / _path(member)).exists():
                    raise ImageFileError("two files of the zip have one name on this disk: unpack it elsewhere")
                packed.extract(member, folder)
    except _DAMAGE as error:
        raise ImageFileError("the zip is damaged, or packed in a way that is not known") from error
    folder.mkdir(exist_ok=True)
    return folder


def _files(packed: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    return [member for member in packed.infolist() if not member.is_dir() and not _is_hidden(member)]


def _check(member: zipfile.ZipInfo) -> None:
    path = _path(member)
    if member.flag_bits & 1:
        raise ImageFileError("the zip is encrypted")
    if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
        raise ImageFileError("the zip has a member that leads out of it")


def _is_hidden(member: zipfile.ZipInfo) -> bool:
    return any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in _path(member).parts)


def _path(member: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(member.filename.replace("\\", "/"))
