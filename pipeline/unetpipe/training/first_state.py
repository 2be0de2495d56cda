"""The state of a run before its first step: which network, with what batches, for how long."""

import logging
from collections.abc import Iterator, Sequence

from unetpipe.dataset.planning.reduction import SMALL_BATCH, patch_work, reductions
from unetpipe.dataset.run_folders import fold_folders
from unetpipe.errors import PlanError, TrainingError
from unetpipe.networks.definition import follows_plan
from unetpipe.training.budget_choice import ENOUGH_STEPS, BudgetChoice, PlanVersion, choose
from unetpipe.training.checkpoint import has_checkpoint, load_checkpoint
from unetpipe.training.measurement import Stopwatch
from unetpipe.training.run_identity import RunIdentity
from unetpipe.training.run_patch import RunPatch, agree_on_patch
from unetpipe.training.schedule import Budget
from unetpipe.training.setup import Setup
from unetpipe.training.state import RunState

log = logging.getLogger(__name__)

_OTHERS = ("3d_lowres", "2d")  # configurations that may take the place of the default, where they are prepared


def first_state(setup: Setup, identity: RunIdentity) -> RunState:
    """Follow config and plan; with a limit in minutes, as much of the plan as this device has time for.

    Raises:
        TrainingError: If there is not time for a single step.
    """
    config, choice = setup.config, _choice(setup)
    if choice is not None:
        setup = setup.following(choice.name, choice.configuration)
    return RunState(
        identity=identity,
        definition=setup.network(),
        budget=Budget.plan(
            epochs=config.epochs,
            iterations=config.iterations,
            batch_size=setup.data.configuration.batch_size,
            choice=choice,
        ),
        choice=choice,
    )


def _choice(setup: Setup) -> BudgetChoice | None:
    config = setup.config
    if config.max_minutes is None:
        return None
    limit, wanted = 60 * config.max_minutes, ENOUGH_STEPS
    if config.epochs is not None:
        wanted = min(wanted, config.epochs * config.iterations)
    versions = list(_versions(setup))

    def chosen(patch: RunPatch | None) -> BudgetChoice:
        return choose(
            _of_one_patch(versions, patch),
            Stopwatch(setup, limit).measure,
            limit_seconds=limit,
            cases=len(setup.data.validation),
            iterations=config.iterations,
            wanted=wanted,
        )

    earlier = _patch_of_another_fold(setup) if setup.group.rank == 0 else None
    found = setup.group.gather(earlier and earlier.model_dump(mode="json"))[0]  # of rank 0: files may appear meanwhile
    choice = chosen(RunPatch.model_validate(found) if found else None)
    own = RunPatch(fold=config.fold, name=choice.name, patch_size=choice.configuration.patch_size)
    agreed = agree_on_patch(setup.folder.parent, own) if setup.group.rank == 0 else own
    agreed = RunPatch.model_validate(setup.group.gather(agreed.model_dump(mode="json"))[0])
    if (agreed.name, agreed.patch_size) != (own.name, own.patch_size):
        choice = chosen(agreed)  # a fold that was started at the same time was faster
    log.info("%s: %s", choice.name, choice.sentence)
    if choice.held_out < len(setup.data.validation):
        log.info(
            "%d of the %d held-out cases, drawn by the seed, are predicted at the end: "
            "all of them would take more than a tenth of the time",
            choice.held_out,
            len(setup.data.validation),
        )
    return choice


def _versions(setup: Setup) -> Iterator[PlanVersion]:
    """Versions of the configuration, and of others that are prepared if the network follows the plan."""
    names = [setup.data.name]
    classes, channels = setup.data.manifest.label_scheme.count, setup.data.input_channels
    fixed = setup.initial is not None or not follows_plan(setup.config.network)
    if setup.config.configuration is None and not fixed and setup.data.first_stage is None:
        names += [name for name in _OTHERS if name != setup.data.name and _can_be_trained(setup, name)]
    for name in names:
        whole = setup.data.plan.configurations[name]
        held_out = setup.following(name, whole).held_out()
        for one in reductions(whole, smallest_batch=max(SMALL_BATCH, setup.group.size), fixed_network=fixed):
            yield PlanVersion(
                name=name,
                configuration=one.configuration,
                change=one.change,
                work=patch_work(one.configuration, channels, classes),
                windows=held_out.mean_windows(one.configuration.patch_size),
            )


def _of_one_patch(versions: Sequence[PlanVersion], earlier: RunPatch | None) -> Sequence[PlanVersion]:
    """Versions with the patch of an earlier fold of the run, so that their networks can be averaged."""
    if earlier is None:
        return versions
    patch = (earlier.name, earlier.patch_size)
    return [one for one in versions if (one.name, one.configuration.patch_size) == patch] or versions


def _can_be_trained(setup: Setup, name: str) -> bool:
    """Whether preprocessing has made all cases for a configuration, and the network can be built for it."""
    if name not in setup.data.plan.configurations:
        return False
    try:
        setup.following(name, setup.data.plan.configurations[name]).network()
    except (PlanError, TrainingError):
        return False
    return True


def _patch_of_another_fold(setup: Setup) -> RunPatch | None:
    for fold, folder in fold_folders(setup.folder.parent).items():
        if fold != setup.config.fold and has_checkpoint(folder):
            state = load_checkpoint(folder)
            if state is not None and (choice := state.choice) is not None:
                return RunPatch(fold=fold, name=choice.name, patch_size=choice.configuration.patch_size)
    return None
