"""Faults that only a comparison of cases shows: a duplicate image, an odd spacing, a class that hardly ever occurs."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.label_names import agree_on_names, names_of_other_classes
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.merging import DeclaredLabels
from unetpipe.errors import Fault, counted, listed

NEAR_CORRELATION = 0.9995
"""Correlation of block means above which two images of one shape and spacing count as the same scan, stored anew."""
_OUTLIER_FACTOR = 8.0
"""A spacing this many times the dataset's median, or as small a part of it, is probably a wrong header."""

_HANDFUL = 10
"""Voxels: a class that never has more than these in a case is hardly a structure."""
_HANDFUL_SHARE = 0.01
"""Largest share of all foreground that such a class has; where classes are landmarks, a few voxels are more."""
_RARE_SHARE = 0.001
"""Share of all foreground below which a class that only one case has is suspicious."""
_MANY = 10
"""More classes than these below that share, and nobody declared them: edges in every case."""
_DIFFERENT_NUMBERS = 3
"""Numbers of values in a case from which they are taken for counted objects, where all count from 1."""
_LISTED = 10
_EQUALS = 3
"""Cases of the same image that a warning names."""
_WHITE = 255
"""What masks hold that are also pictures to look at; others of the same class hold 1."""
_ROWS = 1024
"""Images that are compared with all others at a time."""


def compare_cases(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> list[Fault]:
    """Compare cases with each other. All findings are warnings, but for label values that mean several things."""
    return [
        *_names(manifest, statistics),
        *_duplicates(manifest, statistics),
        *_spacing_outliers(statistics),
        *_absent_classes(manifest, statistics),
        *(_numbered_objects(manifest, statistics) or _rare_classes(manifest, statistics)),
        *_two_kinds_of_masks(manifest, statistics),
        *_unlabelled_values(manifest, statistics),
    ]


def _names(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> list[Fault]:
    """Label values that files call something else than other files do, or what the dataset declares as another class.

    Where the dataset declares classes, files may differ from each other.
    """
    named = [(one.id, "label", one.label_names) for one in statistics]
    faults = agree_on_names(named)[1]
    if not manifest.labels:
        return faults
    declared = DeclaredLabels(classes=manifest.labels, merged=manifest.merged, ignore_value=manifest.ignore_value)
    return [*(replace(fault, severity="warning") for fault in faults), *names_of_other_classes(named, declared)]


def _duplicates(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> list[Fault]:
    """Equal or nearly equal images of different patients, which would leak from training to validation.

    Each case has one warning of either kind, about the cases before it: of many frames of one scan all pairs are alike.
    """
    patients = {case.id: case.patient if case.patient is not None else case.id for case in manifest.cases}
    alike: dict[tuple[object, ...], list[CaseStatistics]] = defaultdict(list)
    for one in statistics:
        spacing = tuple(float(f"{spacing:.4g}") for spacing in one.spacing_mm)
        alike[(one.shape, spacing, len(one.signature))].append(one)
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for group in alike.values():
        if len(group) < 2:
            continue
        signatures = np.array([one.signature for one in group], dtype=np.float64)
        signatures -= signatures.mean(axis=1, keepdims=True)
        signatures /= np.maximum(np.linalg.norm(signatures, axis=1, keepdims=True), 1e-9)
        for first, second in _near_pairs(signatures):
            one, other = group[first], group[second]
            if patients[one.id] != patients[other.id]:
                kind = "nearly the same" if one.image_hash != other.image_hash else "the same"
                found[other.id][kind].append(one.id)
    return [
        Fault.warning(
            "duplicate_image", f"has {kind} image as {_others(others)} end up in training and validation", case
        )
        for case, kinds in found.items()
        for kind, others in kinds.items()
    ]


def _others(cases: Sequence[str]) -> str:
    if len(cases) == 1:
        return f"{cases[0]}, which counts as another patient: the two may"
    return f"{listed(cases, _EQUALS)}, which count as other patients: they may"


def _near_pairs(signatures: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Pairs of rows that are nearly equal, in order; some rows at a time, as all products may not fit in memory."""
    for start in range(0, len(signatures), _ROWS):
        near = signatures[start : start + _ROWS] @ signatures[start:].T > NEAR_CORRELATION
        for row, column in zip(*np.nonzero(np.triu(near, k=1)), strict=True):
            yield start + int(row), start + int(column)


def _spacing_outliers(statistics: Sequence[CaseStatistics]) -> list[Fault]:
    if len(statistics) < 3:
        return []
    spacings = np.array([one.spacing_mm for one in statistics])
    ratios = spacings / np.median(spacings, axis=0)
    odd = (ratios > _OUTLIER_FACTOR) | (ratios < 1 / _OUTLIER_FACTOR)
    return [
        Fault.warning(
            "implausible_spacing",
            f"spacing {' x '.join(f'{s:.4g}' for s in one.spacing_mm)} mm is far from the dataset's median "
            f"{' x '.join(f'{s:.4g}' for s in np.median(spacings, axis=0))} mm",
            one.id,
        )
        for one, is_odd in zip(statistics, odd.any(axis=1), strict=True)
        if is_odd
    ]


def _absent_classes(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> list[Fault]:
    seen = {value for one in statistics for value in one.label_counts}
    return [
        Fault.warning("absent_class", f"class {label.name!r} (value {label.value}) occurs in no case")
        for label in manifest.labels[1:]
        if statistics and label.value not in seen
    ]


def _rare_classes(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> list[Fault]:
    """Values that hardly occur beside others: what resampling, anti-aliasing and lossy compression leave at edges."""
    counts: dict[int, list[int]] = defaultdict(list)
    for one in statistics:
        for value, voxels in one.label_counts.items():
            if value not in (0, manifest.ignore_value):
                counts[value].append(voxels)
    total = sum(map(sum, counts.values()))
    few = {value: found for value, found in counts.items() if sum(found) <= _RARE_SHARE * total}
    rare = {
        value: found
        for value, found in counts.items()
        if (max(found) <= _HANDFUL and sum(found) <= _HANDFUL_SHARE * total)
        or (value in few and (len(found) == 1 < len(statistics) or (not manifest.labels and len(few) > _MANY)))
    }
    if not rare:
        return []
    names = {label.value: f" ({label.name})" for label in manifest.labels}
    shown = [
        f"{value}{names.get(value, '')} in {counted(len(found), 'case')}, {counted(max(found), 'voxel')} at most"
        for value, found in sorted(rare.items())
    ]
    message = (
        f"label values that hardly occur: {listed(shown, _LISTED, '; ')}. If they are the blurred edges of others, "
        "--labels NAME=LOW-HIGH merges them into a class"
    )
    return [Fault.warning("rare_class", message)]


def _numbered_objects(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> list[Fault]:
    """Values that count the objects of each case, such as cells, which nobody declared: they are no classes."""
    found = [set(one.label_counts) - {0, manifest.ignore_value} for one in statistics]
    sizes = sorted({len(values) for values in found if values})
    counted = all(values == set(range(1, len(values) + 1)) for values in found)
    if manifest.labels or not counted or len(sizes) < _DIFFERENT_NUMBERS or sizes[-1] <= _MANY:
        return []
    message = (
        f"label values run from 1 to another number in each case, {sizes[0]} to {sizes[-1]}: if they number objects of "
        f"one kind, such as cells, --labels NAME=1-{sizes[-1]} makes them one class"
    )
    return [Fault.warning("numbered_objects", message)]


def _two_kinds_of_masks(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> list[Fault]:
    """One class as 1 in some files and as 255 in others, which nobody declared: a network would tell them apart."""
    found = [set(one.label_counts) - {0, manifest.ignore_value} for one in statistics]
    values = set().union(*found)
    if manifest.labels or _WHITE not in values or len(values) != 2 or values in found:
        return []
    other = min(values - {_WHITE})
    both = f"{other},{_WHITE}"
    message = f"label values {other} and {_WHITE} never occur in one file: --labels NAME={both} makes them one class"
    return [Fault.warning("two_kinds_of_masks", message)]


def _unlabelled_values(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> list[Fault]:
    """Negative values, and 255 beside a few low ones in one file: so people mark what they did not label."""
    found = [set(one.label_counts) - {0, manifest.ignore_value} for one in statistics]
    values = set().union(*found)
    odd = {value for value in values if value < 0}
    others = values - odd - {_WHITE}
    if others and max(others) <= _MANY and any(_WHITE in one and one & others for one in found):
        odd.add(_WHITE)
    if manifest.labels or not odd or not values - odd:
        return []
    message = (
        f"label values that count as classes: {listed(sorted(odd))}. If they mark what nobody labelled, name the "
        f"classes with --labels NAME=VALUE, and these with --labels ignore={','.join(map(str, sorted(odd)[:_LISTED]))}"
    )
    return [Fault.warning("unlabelled_value", message)]
