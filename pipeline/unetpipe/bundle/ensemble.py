"""One bundle of several folds' networks, whose logits are averaged."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from unetpipe.bundle.evidence import Evidence
from unetpipe.bundle.read import Bundle
from unetpipe.bundle.revise import coded
from unetpipe.bundle.spec import ModelSpec, ModelTask
from unetpipe.bundle.write import write_members
from unetpipe.errors import BundleError
from unetpipe.imaging.dicom.derived.codes import SegmentCode
from unetpipe.inference.quality import mean_quality

_TASK = ("spatial_dims", "channels", "labels", "regions")


def write_ensemble(
    folder: Path,
    folds: Mapping[int, Bundle],
    *,
    segments: Mapping[str, SegmentCode] | None = None,
    tracking_run: str | None = None,
) -> None:
    """Write a bundle of the networks of several folds, or renew it.

    It mirrors along the axes along which all members may be, keeps the largest component of the classes that more than
    half of them name, and predicts the Dice of its labels by the mean of their lines.

    Args:
        folder: Folder of the new bundle.
        folds: Bundle of each fold, by its number.
        segments: Codes of classes in DICOM segmentations; None takes the first fold's.
        tracking_run: Id of the MLflow run that the folds' runs are part of.

    Raises:
        BundleError: If a fold is not trained to its end, is no single network of MONAI's, or its task, preprocessing or
            patch differs from the first fold's.
    """
    first, *others = folds.values()
    for bundle in folds.values():
        if not bundle.spec.finished:
            raise BundleError(f"{bundle.name} is not trained to its end")
        if bundle.spec.registered_network is not None:
            raise BundleError(
                f"{bundle.name}: its network is one that an extension registers, which an ensemble cannot hold"
            )
        if bundle.spec.folds:
            raise BundleError(f"{bundle.name} is an ensemble itself, expected a single network")
    for other in others:
        require_same(first, other, (*_TASK, "preprocessing", "patch_size"))
    specs = [bundle.spec for bundle in folds.values()]
    spec = first.spec.model_copy(
        update={
            "folds": tuple(folds),
            "mirror_axes": common_mirror_axes(specs),
            "postprocessing": agreed_postprocessing(specs),
            "quality": mean_quality([spec.quality for spec in specs if spec.quality is not None]),
            "evidence": _pooled([spec.evidence for spec in specs]),
            "tracking_run": tracking_run,
        }
    )
    if segments is not None:
        spec = coded(spec, segments)
    write_members(folder, spec, [member for bundle in folds.values() for member in bundle.members()])


def _pooled(evidence: Sequence[Evidence | None]) -> Evidence | None:
    """The evidence of all members, if each has some."""
    known = [one for one in evidence if one is not None]
    if len(known) < len(evidence):
        return None
    return Evidence(folds=tuple(fold for one in known for fold in one.folds))


def require_same_task(first: Bundle, other: Bundle) -> None:
    """See that the logits of two bundles may be averaged on a scan's grid.

    Raises:
        BundleError: If their channels, labels or preprocessing steps differ.
    """
    require_same(first, other, _TASK)
    if first.spec.preprocessing.steps != other.spec.preprocessing.steps:
        raise BundleError(f"{first.name} and {other.name} cannot be averaged: their preprocessing steps differ")


def require_same(first: Bundle, other: Bundle, names: Sequence[str]) -> None:
    """See that two bundles have the same values under some keys of their specs.

    Raises:
        BundleError: If they do not; names the key.
    """
    for name in names:
        if getattr(first.spec, name) != getattr(other.spec, name):
            raise BundleError(f"{first.name} and {other.name} cannot be averaged: their {name} differ")


def common_mirror_axes(specs: Sequence[ModelSpec]) -> tuple[int, ...]:
    """Axes along which every model was mirrored in training."""
    return tuple(sorted(set.intersection(*(set(spec.mirror_axes) for spec in specs))))


def agreed_postprocessing(specs: Sequence[ModelTask]) -> tuple[str, ...]:
    """Names of the classes of which more than half of the models keep the largest component alone."""
    votes = Counter(name for spec in specs for name in spec.postprocessing)
    return tuple(label.name for label in specs[0].labels if 2 * votes[label.name] > len(specs))
