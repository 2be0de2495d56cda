"""One bundle of several models: folds' networks on one grid, whose logits are averaged, and models on other grids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetpipe.bundle.archive import PARTS
from unetpipe.bundle.averaging import TASK, agreed_postprocessing, common_mirror_axes, require_same
from unetpipe.bundle.evidence import Evidence
from unetpipe.bundle.member import Member
from unetpipe.bundle.read import Bundle, read_bundle
from unetpipe.bundle.revise import coded
from unetpipe.bundle.spec import BundlePart, ModelSpec
from unetpipe.bundle.write import write_members
from unetpipe.errors import BundleError
from unetpipe.imaging.dicom.derived.codes import SegmentCode
from unetpipe.inference.quality import mean_quality


@dataclass(frozen=True)
class TrainedModel:
    """What a bundle is written of: one network, or those of several folds as one model.

    Attributes:
        spec: What the networks have in common, and what is decided once for all of them.
        members: The network, or that of each fold.
        first_stage: First stage of a cascade, of the same folds.
    """

    spec: ModelSpec
    members: tuple[Member, ...]
    first_stage: "TrainedModel | None" = None


def ensemble_of(folds: Mapping[int, Bundle], tracking_run: str | None = None) -> TrainedModel:
    """Make one model of several folds.

    It mirrors along the axes along which all members may be, keeps the largest component of the classes that more than
    half of them name, and predicts the Dice of its labels by the mean of their lines.

    Args:
        folds: Bundle of each fold, by its number.
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
    code = {bundle.spec.step_code for bundle in folds.values()} - {()}  # which those of earlier versions do not know
    if len(code) > 1:
        raise BundleError(f"{first.name}: its folds had different files of preprocessing steps: train them anew")
    stages = {bundle.spec.first_stage.name if bundle.spec.first_stage else "" for bundle in folds.values()}
    if len(stages) > 1:
        raise BundleError(f"{first.name}: of some folds there is another first stage, or none: they are no ensemble")
    (stage,) = stages
    first_stage = ensemble_of({fold: bundle.parts[stage] for fold, bundle in folds.items()}) if stage else None
    specs = [bundle.spec for bundle in folds.values()]
    spec = first.spec.model_copy(
        update={
            "folds": tuple(folds),
            "step_code": next(iter(code), ()),
            "mirror_axes": common_mirror_axes(specs),
            "postprocessing": agreed_postprocessing(specs),
            "quality": mean_quality([spec.quality for spec in specs if spec.quality is not None]),
            "evidence": _pooled([spec.evidence for spec in specs]),
            "tracking_run": tracking_run,
        }
    )
    return TrainedModel(spec, tuple(member for bundle in folds.values() for member in bundle.members()), first_stage)


def write_ensemble(folder: Path, ensemble: TrainedModel, segments: Mapping[str, SegmentCode] | None = None) -> None:
    """Write a bundle of an ensemble, or renew it.

    Args:
        folder: Folder of the new bundle.
        ensemble: The model.
        segments: Codes of classes in DICOM segmentations; None takes the first fold's.
    """
    spec = ensemble.spec if segments is None else coded(ensemble.spec, segments)
    if spec.first_stage is not None and ensemble.first_stage is not None:
        stage = write_part(folder, spec.first_stage.name, ensemble.first_stage)
        spec = spec.model_copy(update={"first_stage": stage})
    write_members(folder, spec, ensemble.members)


def write_averaged(folder: Path, models: Mapping[str, TrainedModel]) -> None:
    """Write one bundle of models on different grids, whose logits are averaged on the scan's, or renew it.

    Args:
        folder: Folder of the new bundle. The first model is the bundle's own, the others lie in its `parts/`.
        models: Models by name.
    """
    (_, first), *others = models.items()
    parts = tuple(write_part(folder, name, other) for name, other in others)
    write_ensemble(folder, replace(first, spec=first.spec.model_copy(update={"averaged_with": parts})))


def write_part(folder: Path, name: str, model: TrainedModel) -> BundlePart:
    """Write a model into a bundle folder as one of its parts, or renew it there."""
    write_ensemble(folder / PARTS / name, model)
    return BundlePart(name=name, sha256=read_bundle(folder / PARTS / name).sha256)


def _pooled(evidence: Sequence[Evidence | None]) -> Evidence | None:
    """The evidence of all members, if each has some."""
    known = [one for one in evidence if one is not None]
    if len(known) < len(evidence):
        return None
    return Evidence(folds=tuple(fold for one in known for fold in one.folds))
