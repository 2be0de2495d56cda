"""The choice of the plan: the one on disk while it is up to date or was edited, otherwise a new one."""

import hashlib
import logging
from pathlib import Path

from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.planning.adoption import AdoptedModel, adopt, require_channels
from unetpipe.dataset.planning.fingerprint import Fingerprint
from unetpipe.dataset.planning.plan import Plan, read_plan
from unetpipe.dataset.planning.planner import make_plan
from unetpipe.errors import PlanError, counted
from unetpipe.imaging.preprocessing import NORMALIZE, Step, require_steps_suit

log = logging.getLogger(__name__)

PLANNER_SCHEMA = 3
"""Version of the planner: raise it when the same fingerprint leads to another plan."""


def choose_plan(
    config: PreprocessConfig,
    work: Path,
    manifest: Manifest,
    fingerprint: Fingerprint,
    adopted: AdoptedModel | None = None,
) -> Plan:
    """Read WORK/plan.yaml, or plan anew where it is missing or stale.

    Args:
        config: Options of the plan that the caller set.
        work: Work folder.
        manifest: Manifest of the dataset.
        fingerprint: Fingerprint of the dataset.
        adopted: Model whose plan is taken over; None plans for the dataset.

    Raises:
        PlanError: If the plan on disk is malformed, or was edited and contradicts the dataset, or if the order of the
            given preprocessing steps makes no sense, or options contradict the adopted model.
    """
    basis = _basis(config, manifest, fingerprint, adopted)
    if (work / "plan.yaml").exists():
        plan = read_plan(work)
        if plan.is_edited:
            _refuse_other_dataset(plan, manifest)
            log.info("plan.yaml was edited: it is used as it stands")
            if plan.made_from and plan.made_from != basis:
                log.warning(
                    "the dataset or the options have changed since plan.yaml was made; delete it to plan afresh"
                )
            return plan
        if plan.made_from == basis:
            return plan
        log.info("the dataset or the options have changed: planning afresh")
    if adopted is not None:
        return _adopted(config, manifest, fingerprint, adopted).signed(basis)
    plan = make_plan(fingerprint, manifest, config.preset, config.memory_gb, config.spacing_mm)
    if config.preprocessing_step:
        plan = _with_steps(plan, config.preprocessing_step)
    return plan.signed(basis)


def _adopted(config: PreprocessConfig, manifest: Manifest, fingerprint: Fingerprint, model: AdoptedModel) -> Plan:
    """The plan of a model.

    Raises:
        PlanError: If options would change it, or the model does not suit the dataset.
    """
    for name in ("spacing_mm", "preprocessing_step", "memory_gb", "preset"):
        if getattr(config, name) != PreprocessConfig.model_fields[name].get_default(call_default_factory=True):
            option = name.replace("_", "-")
            raise PlanError(f"--{option} cannot be given with --init: the plan is that of {model.name}")
    spacing_mm = model.preprocessing.spacing_mm
    if len(spacing_mm) != manifest.spatial_dims:
        raise PlanError(f"{model.name} is for {len(spacing_mm)}-D images, the dataset is {manifest.spatial_dims}-D")
    require_channels(model, manifest.channels)
    log.info("the plan is that of %s", model.name)
    return adopt(make_plan(fingerprint, manifest, spacing_mm=spacing_mm), model)


def _with_steps(plan: Plan, given: tuple[Step, ...]) -> Plan:
    """The plan with a person's steps.

    Raises:
        PlanError: If their order makes no sense.
    """
    steps = given if NORMALIZE in given else (NORMALIZE, *given)
    try:
        require_steps_suit(steps, plan.normalization)
    except ValueError as error:
        raise PlanError(f"--preprocessing-step: {error}") from error
    return plan.model_copy(update={"steps": steps})


def _basis(config: PreprocessConfig, manifest: Manifest, fingerprint: Fingerprint, adopted: AdoptedModel | None) -> str:
    """Hash of everything that planning depends on."""
    parts = (
        PLANNER_SCHEMA,
        fingerprint.model_dump_json(),
        manifest.labels,
        manifest.ignore_value,
        manifest.channels,
        manifest.modalities,
        config.preset,
        config.memory_gb,
        config.spacing_mm,
        *([config.preprocessing_step] if config.preprocessing_step else []),
        *([adopted.model_dump_json(exclude={"name", "channels"})] if adopted else []),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _refuse_other_dataset(plan: Plan, manifest: Manifest) -> None:
    """See that a plan has as many channels and axes as the dataset."""
    if len(plan.normalization) != len(manifest.channels):
        raise PlanError(
            f"plan.yaml: normalization has {counted(len(plan.normalization), 'channel')}, "
            f"the dataset {len(manifest.channels)}"
        )
    for name, configuration in plan.configurations.items():
        if configuration.spatial_dims != manifest.spatial_dims:
            raise PlanError(
                f"plan.yaml: configurations.{name} has {configuration.spatial_dims} axes, "
                f"the dataset {manifest.spatial_dims}"
            )
