"""Marks that must not come through, and a search of everything that was written for them."""

import base64
import gzip
import io
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.tag import Tag

from unetpipe.imaging.dicom.headers import _KEYWORDS
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.geometry import Grid

MARK = "CANARY"
DATE, TIME, UID, NUMBER = "19870605", "040507.654321", "2.25.98765432109", "87.654321"
"""A mark for each kind of value that takes no letters."""
MARKS = (MARK, DATE, TIME.split(".")[0] + ".", UID, NUMBER)
_OF_VR = {
    **dict.fromkeys(("LO", "SH", "PN", "ST", "LT", "UT", "UC", "UR", "CS", "AE"), MARK),
    **{"DA": DATE, "TM": TIME, "DT": DATE + TIME, "AS": "087Y", "UI": UID},
}
_KEPT = {*_KEYWORDS, "TransferSyntaxUID", "SpecificCharacterSet"}
"""Attributes that decide how an image is read; `mark_series` marks those of them that hold free text itself."""
_FREE_TEXT = ("SeriesDescription", "Manufacturer", "StackID", "AcquisitionDate", "SeriesDate", "StudyDate")


@pytest.fixture
def canary() -> SimpleNamespace:
    """The mark of names, what writes files full of marks, and what searches for them."""
    return SimpleNamespace(mark=MARK, mark_series=mark_series, mark_nifti=mark_nifti, marks_in=marks_in)


def mark_series(folder: Path, array: NDArray[np.int16], grid: Grid, *, seed: int, modality: str = "CT") -> None:
    """Write a series with a mark in every attribute that can hold one, in private tags, UIDs and file names."""
    write_series(folder, array, grid, seed=seed, modality=modality)
    for number, file in enumerate(sorted(folder.iterdir())):
        image = dcmread(file)
        image.update(_marked())
        for keyword in _FREE_TEXT:
            setattr(image, keyword, DATE if keyword.endswith("Date") else MARK)
        image.StudyTime = image.SeriesTime = TIME
        image.PatientName, image.PatientWeight = f"{MARK}^NAME", NUMBER
        image.StudyInstanceUID, image.SeriesInstanceUID = f"{UID}.{seed}", f"{UID}.{seed}.1"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{UID}.{seed}.1.{number}"
        image.FrameOfReferenceUID = f"{UID}.{seed}.2"
        block = image.private_block(0x0011, f"{MARK} PRIVATE", create=True)
        block.add_new(1, "LO", f"{MARK} PRIVATE")
        image.save_as(file.with_name(f"{MARK}_{file.name}"), enforce_file_format=True)
        file.unlink()


def mark_nifti(path: Path, array: NDArray[np.uint8], grid: Grid) -> None:
    """Write a NIfTI file with a mark in its texts, in an extension of each kind and in the name within its gzip."""
    image = nib.Nifti1Image(array, grid.matrix)
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = f"{MARK} {field}"[: image.header[field].dtype.itemsize]
    image.header.extensions.append(Nifti1Extension("comment", f"{MARK} comment".encode()))
    image.header.extensions.append(Nifti1Extension("afni", f"<x>{MARK}</x>".encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, gzip.GzipFile(f"{MARK}.nii", "wb", fileobj=file) as stream:
        stream.write(image.to_bytes())


def marks_in(folder: Path, marks: tuple[str, ...] = MARKS) -> list[str]:
    """Every file below a folder whose name or content has a mark, with the mark and what surrounds it."""
    patterns = {mark: re.compile(_any_encoding(mark), re.IGNORECASE) for mark in marks}
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        for inside, content in ((name, name.encode()), *_contents(name, path.read_bytes())):
            for mark, pattern in patterns.items():
                if match := pattern.search(content):
                    around = content[max(0, match.start() - 60) : match.end() + 20]
                    found.append(f"{mark} in {inside}: {around!r}")
    return found


def _marked() -> Dataset:
    marked = Dataset()
    for tag, (vr, *_, retired, keyword) in DicomDictionary.items():
        usable = not retired and keyword and keyword not in _KEPT and Tag(tag).group not in (0, 2)
        if usable and vr in _OF_VR and keyword_for_tag(tag) == keyword:
            setattr(marked, keyword, _OF_VR[vr])
    return marked


def _any_encoding(mark: str) -> bytes:
    """The mark as bytes of UTF-8 or UTF-16; ASCII letters only differ in the zeros between them."""
    return b"\0?".join(re.escape(one).encode() for one in mark)


def _contents(name: str, data: bytes, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """The bytes of a file, and of all that is packed or stored in it, each with where it was."""
    yield name, data
    if depth > 4:
        return
    for kind, unpacked in _unpacked(data):
        yield from _contents(f"{name} > {kind}", unpacked, depth + 1)


def _unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    if data[:2] == b"\x1f\x8b":
        yield "gzip header", data[:256]
        yield "gzip", _inflated(data, zlib.MAX_WBITS | 16)
    elif data[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                yield "names", member.filename.encode() + member.comment + member.extra
                yield member.filename, archive.read(member)
    elif data[:15] == b"SQLite format 3":
        database = sqlite3.connect(":memory:")
        database.deserialize(data)
        yield "SQL", "\n".join(database.iterdump()).encode()
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        for match in re.finditer(rb"(?:zTXt|iTXt|IDAT)", data):
            yield match[0].decode(), _inflated(data[match.end() :])
    for match in re.finditer(rb"[A-Za-z0-9+/]{64,}={0,2}", data):
        packed = base64.b64decode(match[0][: len(match[0]) // 4 * 4])
        yield "base64", packed
        yield "base64 > zlib", _inflated(packed)


def _inflated(data: bytes, bits: int = zlib.MAX_WBITS) -> bytes:
    try:
        return zlib.decompressobj(bits).decompress(data)
    except zlib.error:
        return b""
