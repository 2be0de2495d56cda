"""Finding of DICOM files in a folder of any depth, in a zip, or alone. Nothing here needs pydicom."""

import contextlib
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from unetpipe.errors import ImageFileError
from unetpipe.imaging.size_limit import refuse_large
from unetpipe.zips import open_zip

_PREAMBLE = 128
_HEAD = 1024
_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
"""Suffixes in lower case that files of DICOM have where they have any."""
_UNFINISHED_SUFFIXES = frozenset({".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp"})
_ELEMENTS = 4
_IDENTIFYING = 0x0008  # group of the elements that identify an image
_LONGEST_FIRST = 64
_UNDEFINED = 0xFFFFFFFF
_MAC_ARCHIVE = "__MACOSX"
_DAMAGE = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError)
"""Kinds of errors that zipfile raises of damaged members, RuntimeError of encrypted ones."""


class _Bounded(io.BufferedReader):
    """A file of which no more is asked for than it holds.

    Damaged elements state lengths of gigabytes, which Python would set aside before it reads.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does."""
        return super().read(size if size is None or size < _HEAD else min(size, self._size))


@dataclass(frozen=True)
class DicomFile:
    """One file, in a folder or in a zip.

    Attributes:
        path: Path of the file, or its path inside the zip.
        archive: The zip, if it is in one.
    """

    path: PurePosixPath | Path
    archive: zipfile.ZipFile | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        if self.archive is not None:
            return self.archive.getinfo(str(self.path)).file_size
        return Path(self.path).stat().st_size

    @property
    def absent(self) -> bool:
        """Whether this is a link to a file that is not there."""
        return self.archive is None and not Path(self.path).exists()

    def open(self) -> BinaryIO:
        """The file, to read from any place in it.

        Raises:
            ImageFileError: If it cannot be read.
        """
        try:
            if self.archive is not None:
                refuse_large("a file in the zip", self.size)
                return io.BytesIO(self.archive.read(str(self.path)))
            return _Bounded(Path(self.path))
        except _DAMAGE as error:
            raise ImageFileError("a file of a DICOM source cannot be read") from error

    def head(self) -> bytes:
        """The first bytes: as many as tell what the file is; none of a link to a file that is not there."""
        if self.absent:
            return b""
        try:
            if self.archive is not None:
                with self.archive.open(str(self.path)) as stream:
                    return stream.read(_HEAD)
            with Path(self.path).open("rb") as file:
                return file.read(_HEAD)
        except _DAMAGE as error:
            raise ImageFileError("a file of a DICOM source cannot be read") from error

    def prefetch(self) -> None:
        """Ask the system to read the file soon, where it takes such advice."""
        if self.archive is not None or not hasattr(os, "posix_fadvise"):
            return
        with contextlib.suppress(OSError), Path(self.path).open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)

    def digest(self) -> bytes:
        """Compute a hash of the file's whole content."""
        with self.open() as stream:
            return blake2b(stream.read(), digest_size=16).digest()


def list_files(path: Path) -> list[DicomFile]:
    """List every file of a folder and its subfolders, or of a zip, or the one file; hidden files are left out.

    Raises:
        ImageFileError: If a zip is damaged, encrypted or lists too many files.
    """
    if path.is_dir():
        return [DicomFile(file) for file in sorted(_walk(path))]
    if not zipfile.is_zipfile(path):
        return [DicomFile(path)]
    archive = open_zip(path, ImageFileError)
    members = archive.infolist()
    if any(member.flag_bits & 1 for member in members):
        raise ImageFileError("the zip is encrypted")
    names = sorted(member.filename for member in members if not member.is_dir())
    return [DicomFile(PurePosixPath(name), archive) for name in names if not _is_hidden(PurePosixPath(name))]


def is_dicom(path: Path) -> bool:
    """Whether a folder or zip holds any DICOM file, or the file is one; by the first bytes of files."""
    try:
        files = map(DicomFile, _walk(path)) if path.is_dir() else list_files(path)
        return any(looks_like_dicom(file.head()) for file in files)
    except (ImageFileError, OSError, ValueError):  # ValueError of a name that no file can have
        return False


def looks_like_dicom(head: bytes) -> bool:
    """Whether bytes begin a DICOM file: after a preamble, or without one, as old archives write them.

    Without a preamble a file begins with an element of group 0002 or 0008, its length either after two letters that
    name a type, or right after the tag.
    """
    if head[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return True
    return _begins_with_element(head, "little") or _begins_with_element(head, "big")


def resembles(file: DicomFile, head: bytes, images: "ImageNames") -> bool:
    """Whether a file that is no DICOM seems to be a damaged one: an empty or cut off slice among `images`.

    By its suffix or the pattern of its name. Readable text of another name pattern is no slice.
    """
    name = file.path.name
    if Path(name).suffix.lower() in DICOM_SUFFIXES or images.has_pattern(name):
        return True
    return images.has_suffix(name) and not _is_text(head)


@dataclass(frozen=True)
class ImageNames:
    """The naming of the images of one folder.

    Attributes:
        patterns: Names with digits taken out, with and without their suffix.
        suffixes: Suffixes in lower case; ``""`` for none, or one of digits only, as UIDs end in.
    """

    patterns: frozenset[str]
    suffixes: frozenset[str]

    @classmethod
    def of(cls, names: Iterable[str]) -> "ImageNames":
        """Learn the naming from the names of files that are images."""
        listed = list(names)
        return cls(frozenset(map(_pattern, listed)), frozenset(map(_suffix, listed)))

    def has_pattern(self, name: str) -> bool:
        """Whether a name is like those of the images, be it with the further suffix of an unfinished download."""
        whole = Path(name).stem if _suffix(name) in _UNFINISHED_SUFFIXES else name
        return _pattern(whole) in self.patterns

    def has_suffix(self, name: str) -> bool:
        """Whether its suffix is one of the images'."""
        return _suffix(name) in self.suffixes


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder, through links to folders too, each folder once; links to what is not there are files."""
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not _is_hidden(PurePosixPath(name)))
        visible = [Path(root) / name for name in files if not name.startswith(".")]
        yield from (path for path in visible if path.is_file() or not path.exists())


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == _MAC_ARCHIVE for part in path.parts)


def _begins_with_element(head: bytes, order: Literal["little", "big"]) -> bool:
    if len(head) < 8 or int.from_bytes(head[:2], order) not in (2, 8):
        return False
    return head[4:6] in _VRS or (order == "little" and _implicit_elements(head))


def _implicit_elements(head: bytes) -> bool:
    """Whether the first elements without types are such: of an image, with rising tags and even lengths.

    Two of them are also what the small numbers of a label's raw voxels may look like, and of those the group of a
    file's own elements, which always have types.
    """
    at, last, count = 0, -1, 0
    while at + 8 <= len(head) and count < _ELEMENTS:
        group, element, length = struct.unpack_from("<HHI", head, at)
        tag = group << 16 | element
        if (
            (not count and group != _IDENTIFYING)
            or tag <= last
            or (length % 2 and length != _UNDEFINED)
            or (not count and length > _LONGEST_FIRST)
        ):
            return False
        at, last, count = at + 8 + length, tag, count + 1
    return count > 2 or at == len(head)


def _is_text(head: bytes) -> bool:
    """Whether bytes are printable text, in UTF-8 as far as they go."""
    printable = head.decode("utf-8", errors="ignore")
    return (
        bool(head)
        and len(printable.encode()) > 0.9 * len(head)
        and all(c.isprintable() or c.isspace() for c in printable)
    )


def _pattern(name: str) -> str:
    return re.sub(r"\d+", "#", name.lower())


def _suffix(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return "" if suffix[1:].isdigit() else suffix
