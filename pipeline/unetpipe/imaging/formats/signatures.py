"""The format of a file by its first bytes, whatever its name."""

import re

_SIGNATURES = {
    "NIfTI": ((344, b"n+1\0"), (344, b"ni1\0"), (4, b"n+2\0"), (4, b"ni2\0")),
    "NRRD": ((0, b"NRRD000"),),
    "MetaImage": ((0, b"ObjectType"), (0, b"NDims")),
    "PNG": ((0, b"\x89PNG\r\n\x1a\n"),),
    "JPEG": ((0, b"\xff\xd8\xff"),),
    "TIFF": ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),
    "gzip": ((0, b"\x1f\x8b"),),
    "DICOM": ((128, b"DICM"),),
    "HDF5": ((0, b"\x89HDF\r\n\x1a\n"),),
    "a zip archive": ((0, b"PK\3\4"),),
    "GIF": ((0, b"GIF87a"), (0, b"GIF89a")),
    "BMP": ((0, b"BM"),),
    "a web page": ((0, b"<!DOCTYPE"), (0, b"<!doctype"), (0, b"<html")),
}
_POINTERS = (
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer, whose file was not fetched"),
    (re.compile(rb"/annex/objects/"), "a git-annex pointer, whose file was not fetched"),
    (re.compile(rb"\.\.?/[^\n\0]+\n?\Z"), "the text of a link, copied without the file that it leads to"),
)
"""What stores that address files by content put in the place of a file."""
LENGTH = 352
"""Bytes that tell them apart."""
_OF_SUFFIX = {
    ".nii.gz": "gzip",
    ".nii": "NIfTI",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}


def pointer(start: bytes) -> str | None:
    """What is in the place of a file that was not fetched, by its first `LENGTH` bytes; None for any other content."""
    return next((what for pattern, what in _POINTERS if pattern.match(start)), None)


def contradiction(suffix: str, start: bytes) -> str | None:
    """Say what a file holds where that is another format than its suffix names.

    Args:
        suffix: Suffix in lower case.
        start: The first `LENGTH` bytes.

    Returns:
        The end of a sentence; None where the content fits the suffix, or is nothing that has a signature.
    """
    if reason := pointer(start):
        return f"is {reason}"
    expected = next(kind for known, kind in _OF_SUFFIX.items() if suffix.endswith(known))
    found = next(
        (kind for kind, places in _SIGNATURES.items() if any(start[at:].startswith(mark) for at, mark in places)), None
    )
    if found in (None, expected):
        return None
    if (found, suffix) == ("gzip", ".nii"):
        return "is compressed: call it .nii.gz"
    if (found, suffix) == ("NIfTI", ".nii.gz"):
        return "is not compressed: call it .nii"
    return f"holds {found}, not {suffix} as it is called"
