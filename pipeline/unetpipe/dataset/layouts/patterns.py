"""Any folder, told apart by patterns: what ``{patient}`` and ``{case}`` match says which files belong together.

``--images "{case}/t1.nii.gz" --images "{case}/t2.nii.gz" --label "{case}/seg.nii.gz"`` takes two channels. ``*`` and
``?`` stand for the rest of a name, ``**/`` for folders between. ``{patient}`` says whose case it is, and is a part of
the case's id: ``{patient}_{case}.nii.gz`` takes ``patient001_frame01.nii.gz`` for the case ``patient001_frame01``.
"""

import glob
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from unetpipe.dataset.layouts.listing import Listing, folder_name, may_be_image
from unetpipe.dataset.manifest import Case
from unetpipe.errors import DatasetError

_Key = tuple[str | None, str | None]
"""Texts that ``{patient}`` and ``{case}`` matched; None where a pattern lacks the one."""
_PART = re.compile(r"\{case\}|\{patient\}|\*\*/|\*|\?")
_PLACES = ("{patient}", "{case}")
_ONE_LABEL = "; masks of one class each are to be merged into one label map of the case first"
_MEANINGS = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}


def list_patterns(folder: Path, images: Sequence[str], label: str | None) -> Listing:
    """List the cases of a folder.

    Args:
        folder: Folder that the patterns are relative to.
        images: One pattern per channel; each holds ``{case}`` or ``{patient}``. They may match DICOM folders.
        label: Likewise; what it matches is no image. None where labels are not wanted.

    Raises:
        DatasetError: If a pattern holds neither.
    """
    patterns = [*images, *([] if label is None else [label])]
    for pattern in patterns:
        if not any(place in pattern for place in _PLACES):
            example = "'{case}/image.nii.gz'"
            message = f"pattern {pattern!r} should hold {{case}} or {{patient}}, such as {example}"
            raise DatasetError.of("bad_pattern", message)
    listing = Listing(name=folder_name(folder))
    labels = {} if label is None else _matches(folder, label, set(), listing, _ONE_LABEL)
    channels = [_matches(folder, pattern, set(labels.values()), listing) for pattern in images]
    ids = _ids(patterns, [*channels, labels])
    files = [_by_case(found, ids, listing) for found in channels]
    label_of = _by_case(labels, ids, listing)
    patients = {name: patient for (patient, _), name in ids.items()}
    for name in sorted(set(label_of).union(*files)):
        lacking = [pattern for pattern, found in zip(images, files, strict=True) if name not in found]
        for pattern in lacking:
            listing.fault("missing_image", f"nothing matches {pattern}", case=name)
        if label is not None and name not in label_of:
            listing.training_fault("missing_label", f"nothing matches {label}", case=name)
        if not lacking:
            paths = tuple(found[name] for found in files)
            listing.cases.append(Case(id=name, images=paths, label=label_of.get(name), patient=patients.get(name)))
    return listing


def _matches(folder: Path, pattern: str, taken: set[Path], listing: Listing, advice: str = "") -> dict[_Key, Path]:
    """The files or DICOM folders that match, by what the pattern's places matched.

    Where several match for one case, that is a fault, which ends in the advice.
    """
    expression, wildcard = _expression(pattern), pattern.replace("[", "[[]")
    for place in _PLACES:
        wildcard = wildcard.replace(place, "*")
    found: dict[_Key, Path] = {}
    for name in sorted(glob.glob(wildcard, root_dir=folder, recursive=True)):  # noqa: PTH207 - it follows links
        match, path = expression.fullmatch(name), folder / name
        if match is None or path in taken or path.name.startswith(".") or not may_be_image(path):
            continue
        places = {place: unicodedata.normalize("NFC", text) for place, text in match.groupdict().items()}
        key = (places.get("patient"), places.get("case"))  # macOS decomposes letters that other systems compose
        if key in found:
            both = f"{found[key].relative_to(folder).as_posix()}, {name}"
            listing.fault("ambiguous", f"several files match {pattern}: {both}{advice}", case=_joined(key))
        found.setdefault(key, path)
    return found


def _ids(patterns: Sequence[str], found: Sequence[Mapping[_Key, Path]]) -> dict[_Key, str]:
    """The id of each case, all that its places matched, from the patterns with the most places."""
    most = max(len(_expression(pattern).groupindex) for pattern in patterns)
    keys = {key for matched in found for key in matched if sum(text is not None for text in key) == most}
    ids = {key: _joined(key) for key in keys}
    return ids if len(set(ids.values())) == len(ids) else {key: _joined(key, "/") for key in keys}


def _by_case(found: Mapping[_Key, Path], ids: Mapping[_Key, str], listing: Listing) -> dict[str, Path]:
    """Files by case id. What a pattern with fewer places matched is the one case's that it fits."""
    fitting: dict[_Key, set[str]] = defaultdict(set)
    for (patient, case), name in ids.items():
        less: tuple[_Key, ...] = ((None, case), (patient, None), (None, name), (name, None))
        for key in less:
            fitting[key].add(name)
    files: dict[str, Path] = {}
    for key, path in found.items():
        names = [ids[key]] if key in ids else sorted(fitting[key]) or [_joined(key)]
        if len(names) > 1:
            listing.fault("ambiguous", f"{path.name} fits several cases: {', '.join(names)}", case=names[0])
        elif names[0] in files:
            listing.fault("ambiguous", f"several files fit: {files[names[0]].name}, {path.name}", case=names[0])
        files.setdefault(names[0], path)
    return files


def _joined(key: _Key, separator: str = "_") -> str:
    return separator.join(text for text in key if text is not None)


def _expression(pattern: str) -> re.Pattern[str]:
    """A regular expression in which a place that comes again must hold the same."""
    text, at, seen = "", 0, set()
    for part in _PART.finditer(pattern):
        text += re.escape(pattern[at : part.start()])
        name = part[0].strip("{}")
        if part[0] in _PLACES:
            text += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)"
            seen.add(name)
        else:
            text += _MEANINGS[part[0]]
        at = part.end()
    return re.compile(text + re.escape(pattern[at:]))
