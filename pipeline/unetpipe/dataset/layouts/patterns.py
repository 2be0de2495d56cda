"""Any folder, told apart by patterns: ``{case}`` is what the files of one case have in common.

``--images "{case}/t1.nii.gz" --images "{case}/t2.nii.gz" --label "{case}/seg.nii.gz"`` takes two channels. ``*`` and
``?`` stand for the rest of a name, ``**/`` for folders between, ``{patient}`` for whose case it is.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from unetpipe.dataset.layouts.listing import Listing, refuse
from unetpipe.dataset.manifest import Case
from unetpipe.imaging.files import is_image

_PART = re.compile(r"\{case\}|\{patient\}|\*\*/|\*|\?")
_PLACES = ("{case}", "{patient}")
_MEANINGS = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}


def list_patterns(folder: Path, images: Sequence[str], label: str | None) -> Listing:
    """List the cases of a folder.

    Args:
        folder: What patterns are relative to.
        images: One pattern per channel; each holds ``{case}``. They may match DICOM folders.
        label: Likewise; what it matches is no image.

    Raises:
        DatasetError: If a pattern lacks ``{case}``, or images or label have none.
    """
    if not images or label is None:
        raise refuse("bad_pattern", "patterns of images and of the label go together: give --images and --label")
    for pattern in (*images, label):
        if "{case}" not in pattern:
            raise refuse("bad_pattern", f"pattern {pattern!r} should hold {{case}}, such as '{{case}}/image.nii.gz'")
    listing = Listing(name=folder.resolve().name)
    labels = _matches(folder, label, set(), listing)
    taken = {path for path, _ in labels.values()}
    channels = [_matches(folder, pattern, taken, listing) for pattern in images]
    for name in sorted(set(labels).union(*channels)):
        lacking = [pattern for pattern, found in zip(images, channels, strict=True) if name not in found]
        for pattern in lacking:
            listing.fault("missing_image", f"nothing matches {pattern}", case=name)
        if name not in labels:
            listing.fault("missing_label", f"nothing matches {label}", case=name)
        elif not lacking:
            files = [found[name] for found in channels]
            patient = next((patient for _, patient in (*files, labels[name]) if patient is not None), None)
            paths = tuple(path for path, _ in files)
            listing.cases.append(Case(id=name, images=paths, label=labels[name][0], patient=patient))
    return listing


def _matches(folder: Path, pattern: str, taken: set[Path], listing: Listing) -> dict[str, tuple[Path, str | None]]:
    """By case: the file or DICOM folder that matches, and its patient if the pattern tells."""
    expression = _expression(pattern)
    wildcard = pattern
    for place in _PLACES:
        wildcard = wildcard.replace(place, "*")
    found: dict[str, tuple[Path, str | None]] = {}
    for path in sorted(folder.glob(wildcard)):
        match = expression.fullmatch(path.relative_to(folder).as_posix())
        if match is None or path in taken or path.name.startswith(".") or not is_image(path):
            continue
        name = match["case"]
        if name in found:
            both = ", ".join(one.relative_to(folder).as_posix() for one in (found[name][0], path))
            listing.fault("ambiguous", f"several files match {pattern}: {both}", case=name)
        found.setdefault(name, (path, match.groupdict().get("patient")))
    return found


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
