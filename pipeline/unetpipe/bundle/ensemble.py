"""One bundle of several folds' networks, whose logits are averaged."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unetpipe.bundle.averaging import TASK, agreed_postprocessing, common_mirror_axes, require_same
from unetpipe.bundle.evidence import Evidence
from unetpipe.bundle.read import Bundle
from unetpipe.bundle.revise import coded
from unetpipe.bundle.write import write_members
from unetpipe.errors import BundleError
from unetpipe.imaging.dicom.derived.codes import SegmentCode
from unetpipe.inference.quality import mean_quality


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
        require_same(first, other, (*TASK, "preprocessing", "patch_size"))
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
