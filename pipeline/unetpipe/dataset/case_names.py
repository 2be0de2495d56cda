"""Case ids and file names: every id has one file name, which gives the id back.

An id is what a person called the case, such as ``Fall 1 (prä)``. Its file name is the same text where every file system
takes it. Characters that some do not take, and the percent sign, are written as in a URL: ``%3A`` for a colon. Ids that
differ only in what macOS and Windows ignore, such as ``Scan_1`` and ``scan_1``, are told apart in the same way.
"""

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path

from unetpipe.imaging.files import strip_suffix

MAX_BYTES = 200
"""Longest file name without suffix; file systems take 255 bytes, and suffixes and temporary names need some of them."""
_UNSAFE = r'[\x00-\x1f\x7f-\x9f"%*/:<>?\\|]|^[. ]|[. ]$'
_ALWAYS = re.compile(_UNSAFE)
_IN_DOUBT = re.compile(_UNSAFE + r"|[^ -@\[-~]")  # capitals and all that is not ASCII
_ESCAPES = re.compile(r"(?:%[0-9A-F]{2})+")
_REPLACED = re.compile(r"[^A-Za-z0-9._-]|^\.")  # what earlier versions made an underscore of
_CUT = "%~"  # no escape begins like this
_HASH_DIGITS = 16


def file_names(ids: Iterable[str]) -> dict[str, str]:
    """The file name of each case, without suffix; no two are equal, even where letter case does not count.

    Args:
        ids: Ids of all cases whose files share a folder.

    Returns:
        File name by id, in the order of `ids`. What would be longer than 200 bytes is cut, and ends in ``%~`` and a
        hash of the id.
    """
    ids = list(dict.fromkeys(ids))
    alike = Counter(map(_caseless, ids))
    return {case: _file_name(case, _ALWAYS if alike[_caseless(case)] == 1 else _IN_DOUBT) for case in ids}


def case_id(file_name: str) -> str | None:
    """The id that a file name, without suffix, stands for; None where the name was cut."""
    if _CUT in file_name:
        return None
    try:
        return _ESCAPES.sub(lambda escapes: bytes.fromhex(escapes[0].replace("%", "")).decode(), file_name)
    except UnicodeDecodeError:
        return file_name  # a person's own percent signs


def former_ids(ids: Iterable[str]) -> dict[str, str]:
    """The ids of cases by what work folders of earlier versions call them, and by themselves."""
    ids = list(ids)
    return {_REPLACED.sub("_", case): case for case in ids} | {case: case for case in ids}


def match_ids(names: Iterable[str], ids: Iterable[str]) -> dict[str, str]:
    """Find the case that each file belongs to, whoever named it.

    A file belongs to a case if its name without suffix is the id itself, or the file name made from it here. Failing
    that, the id in another Unicode normal form will do: macOS decomposes letters that other systems compose.

    Returns:
        Id by name; names of no case are left out.
    """
    names, ids = list(names), list(ids)
    exact = {case: case for case in ids}
    made = {name: case for case, name in file_names(ids).items()}
    found: dict[str, str] = {}
    for name in names:
        case = exact.get(name) or made.get(name) or exact.get(case_id(name) or "")
        if case is not None:
            found[name] = case
    left: dict[str, list[str]] = defaultdict(list)
    for one in exact.keys() - found.values():
        left[unicodedata.normalize("NFC", one)].append(one)
    for name in names:
        alike = left[unicodedata.normalize("NFC", name)]
        if name not in found and len(alike) == 1:
            found[name] = alike[0]
    return found


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its own without suffix where these differ, otherwise all that the paths differ in.

    ``p1/t1.nii.gz`` and ``p2/t1.nii.gz`` are ``p1`` and ``p2``. With ``p2/t2.nii.gz`` beside them the three are
    ``p1_t1``, ``p2_t1`` and ``p2_t2``.

    Args:
        paths: Absolute. Only equal paths get equal names.
    """
    if not paths:
        return []
    shared = len(Path(os.path.commonpath([path.parent for path in paths])).parts)
    own = [strip_suffix(path.name) for path in paths]
    parts = [(*path.parts[shared:-1], name) for path, name in zip(paths, own, strict=True)]
    if len(set(map(len, parts))) == 1:
        varies = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
        parts = [tuple(compress(part, varies)) for part in parts]
    differing = ["_".join(part) for part in parts]
    whole = ["/".join(path.parts[shared:]) for path in paths]
    return next((names for names in (own, differing) if len(set(names)) == len(set(paths))), whole)


def _caseless(text: str) -> str:
    """Key that is equal for texts that a file system may take for one (Unicode's canonical caseless matching)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def _file_name(case: str, escaped: re.Pattern[str]) -> str:
    name = escaped.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), case)
    if len(name.encode()) <= MAX_BYTES:
        return name
    ending = _CUT + hashlib.sha256(case.encode()).hexdigest()[:_HASH_DIGITS]
    begin = name.encode()[: MAX_BYTES - len(ending)].decode(errors="ignore")
    return re.sub(r"%.?$", "", begin) + ending
