"""Make a bundle of a model folder of nnU-Net 2."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unetpipe.bundle.archive import open_bundle, read_config, shown
from unetpipe.bundle.limits import parse_spec
from unetpipe.bundle.member import Member
from unetpipe.bundle.nnunet.checkpoint import Checkpoint, read_checkpoint
from unetpipe.bundle.nnunet.plans import ModelPlan, read_labels, read_model_plan
from unetpipe.bundle.nnunet.weights import monai_network, monai_weights
from unetpipe.bundle.recipe import TrainingRecipe
from unetpipe.bundle.spec import SPEC_KEY, ModelSpec
from unetpipe.bundle.write import write_members
from unetpipe.dataset.label_scheme import LabelClass, Region
from unetpipe.documents import first_fault
from unetpipe.errors import BundleError, PlanError, UnetpipeError
from unetpipe.inference.sliding_window import Blending

_CHECKPOINT = "checkpoint_final.pth"


def convert(folder: Path, out: Path, folds: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Write a bundle that gives the labels of nnU-Net's own prediction.

    Args:
        folder: Folder with ``plans.json``, ``dataset.json`` and ``fold_0``, ``fold_1``, ..., such as
            ``nnUNetTrainer__nnUNetPlans__3d_fullres``.
        out: Folder of the bundle.
        folds: Folds to take; None takes all that have a ``checkpoint_final.pth``.

    Returns:
        The folds that were taken.

    Raises:
        BundleError: If a file is missing, damaged or holds a program, or has a part that has no equivalent here.
    """
    name, read = folder.name, open_bundle(folder)
    if not folder.is_dir():
        raise BundleError(f"{folder}: expected nnU-Net's model folder, with plans.json, dataset.json and fold_0")
    plans, dataset = (read_config(name, file, read) for file in ("plans.json", "dataset.json"))
    found = tuple(sorted(_number(path) for path in folder.glob(f"fold_*/{_CHECKPOINT}") if _number(path) >= 0))
    wanted = found if folds is None else folds
    if not wanted or not set(wanted) <= set(found):
        absent = sorted(set(wanted) - set(found))
        raise BundleError(f"{name}: no {_CHECKPOINT} in {', '.join(f'fold_{fold}' for fold in absent) or 'any fold_*'}")
    checkpoints = [read_checkpoint(folder / f"fold_{fold}" / _CHECKPOINT) for fold in wanted]
    if len({one.configuration for one in checkpoints}) > 1:
        raise BundleError(f"{name}: its folds were trained for different configurations")
    plan = read_model_plan(name, plans, checkpoints[0].configuration)
    spec = _spec(name, dataset, plan, checkpoints, wanted)
    outputs = 1 if _is_single(read_labels(name, dataset)[1]) else spec.label_scheme.count
    write_members(out, spec, _members(name, spec, plan, checkpoints, outputs))
    return wanted


def _number(checkpoint: Path) -> int:
    digits = checkpoint.parent.name.removeprefix("fold_")
    return int(digits) if digits.isdecimal() and len(digits) < 4 else -1


def _spec(
    name: str, dataset: dict[str, Any], plan: ModelPlan, checkpoints: list[Checkpoint], folds: tuple[int, ...]
) -> ModelSpec:
    channels = dataset.get("channel_names") or dataset.get("modality")
    if not isinstance(channels, dict) or len(channels) != len(plan.preprocessing.normalization):
        raise BundleError(f"{name}: dataset.json: expected channel_names of {len(plan.preprocessing.normalization)}")
    labels, regions = read_labels(name, dataset)
    if _is_single(regions):  # whose one output is the foreground's logit of two classes
        labels, regions = (labels[0], LabelClass(name=regions[0].name, value=regions[0].written)), ()
    mirrored = set.intersection(*(set(one.mirror_axes) for one in checkpoints))
    try:
        spec = ModelSpec(
            spatial_dims=3,
            channels=tuple(str(channels[key]) for key in sorted(channels, key=_order)),
            labels=labels,
            regions=regions,
            preprocessing=plan.preprocessing,
            patch_size=plan.patch_size,
            blending=Blending(convention="nnunet"),
            mirror_axes=tuple(axis for axis, theirs in enumerate(plan.axes) if theirs in mirrored),
            folds=folds if len(folds) > 1 else (),
            recipe=TrainingRecipe(batch_size=plan.batch_size),
            training_domain=None,
        )
    except ValidationError as error:
        raise BundleError(f"{name}: {shown(first_fault(error)[1])}") from error
    return parse_spec(name, {SPEC_KEY: json.loads(spec.model_dump_json())})  # its values, within limits


def _order(number: object) -> tuple[int, str]:
    text = str(number)
    return int(text) if text.isdecimal() else 0, text


def _is_single(regions: tuple[Region, ...]) -> bool:
    return len(regions) == 1


def _members(name: str, spec: ModelSpec, plan: ModelPlan, checkpoints: list[Checkpoint], outputs: int) -> list[Member]:
    try:
        definition = monai_network(plan, len(spec.channels), outputs)
        return [Member(definition, monai_weights(plan, one.weights, definition)) for one in checkpoints]
    except (PlanError, UnetpipeError) as error:
        raise BundleError(f"{name}: {shown(error)}") from error
