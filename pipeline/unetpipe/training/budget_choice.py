"""The choice of a plan for a time budget: the first that leaves time for enough steps, from nnU-Net's on downwards."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from unetpipe.dataset.planning.plan import Configuration
from unetpipe.documents import Record
from unetpipe.errors import TrainingError, counted

ENOUGH_STEPS = 1000  # below this a narrower network learns more: docs/training.md
_ENOUGH_OF_A_PATCH = 500  # below this a smaller patch learns more, where the network is as narrow as it gets
EPOCHS = 20  # in a budget, at least, so that there are a curve to read and a checkpoint to resume from
SAVING_SECONDS = 5.0
WINDOWS = 0.3  # to validate with per patch learned from: a tenth of the time
_UNSURE = 0.5  # of enough steps: an estimate of so many may be wrong
_FEWEST_STEPS = 100  # of volumes, before slices are learned instead
_VALIDATION_SHARE = 0.1  # of the budget, that predicting held-out cases at the end may take, and as much between epochs
_SLOWER = 1.25  # than estimated, that predicting the held-out cases may be
_SEES_ENOUGH = 0.25  # of the median image: nnU-Net plans a low resolution where the patch covers less


@dataclass(frozen=True, kw_only=True)
class PlanVersion:
    """A version of a configuration.

    Attributes:
        name: Name of the plan's configuration.
        configuration: The configuration, or a smaller version of it.
        change: What is smaller than in the version before it.
        work: Work of one patch, on a scale that all versions share.
        windows: Windows of a held-out case, on the mean.
    """

    name: str
    configuration: Configuration
    change: str
    work: float
    windows: float

    @property
    def step_work(self) -> float:
        """Work of a whole batch."""
        return self.work * self.configuration.batch_size


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured, or estimated, seconds of a version on this device.

    Attributes:
        step_seconds: An optimiser step, sampling and augmentation included; infinite where the device has too little
            memory for it, and the others then count for nothing.
        window_seconds: A window of a held-out case, predicted in a batch.
        case_seconds: What predicting a held-out case from its file takes, without the network, on one rank.
        ranks: Processes that held-out cases are divided among.
        saving_seconds: Saving after an epoch.
        elapsed_seconds: From the start of the run to now.
    """

    step_seconds: float
    window_seconds: float
    case_seconds: float
    ranks: int = 1
    saving_seconds: float
    elapsed_seconds: float

    @property
    def fits(self) -> bool:
        """Whether the device has the memory for a step."""
        return math.isfinite(self.step_seconds)


class Considered(Record):
    """A version that was weighed, for people.

    Attributes:
        change: What is smaller than in the one before it.
        step_seconds: Seconds of an optimiser step; None where the device has too little memory for it.
        steps: Steps that there is time for.
        measured: Whether that was measured; else it is estimated from another's measurement.
    """

    change: str
    step_seconds: float | None
    steps: int
    measured: bool


class BudgetChoice(Record):
    """The plan that a budget leaves time for, on this device.

    Attributes:
        name: Name of the plan's configuration.
        configuration: The configuration that is trained.
        steps: Optimiser steps that are expected.
        wanted: Steps that were asked for.
        iterations: Optimiser steps of an epoch.
        step_seconds: Seconds of an optimiser step.
        seconds: Seconds for optimiser steps and the validations between them, counted from the start of the run.
        setup_seconds: Seconds from the start of the run to its first step.
        held_out: Number of held-out cases that are predicted at the end.
        considered: Versions in the order of preference, as far as the chosen one.
    """

    name: str
    configuration: Configuration
    steps: int
    wanted: int
    iterations: int
    step_seconds: float
    seconds: float
    setup_seconds: float
    held_out: int
    considered: tuple[Considered, ...]

    @property
    def sentence(self) -> str:
        """What was chosen, and why."""
        plan, chosen = self.considered[0], self.considered[-1]
        steps = f"{counted(chosen.steps, 'step')} of {self.step_seconds:.2g} s"
        if len(self.considered) == 1:
            return f"the plan as it is: {steps}, {self.wanted} are enough"
        changes = "; ".join(one.change for one in self.considered[1:])
        reason = (
            "the device has too little memory for the plan"
            if plan.step_seconds is None
            else f"the plan's {counted(plan.steps, 'step')} of {plan.step_seconds:.2g} s would be fewer than "
            f"{self.wanted}"
        )
        return f"{reason}, so that it is made smaller: {changes}; now {steps}"


Measure = Callable[[PlanVersion], Cost]
"""Measures a version on the device."""


def choose(
    versions: Sequence[PlanVersion],
    measure: Measure,
    *,
    limit_seconds: float,
    cases: int,
    iterations: int,
    wanted: int = ENOUGH_STEPS,
) -> BudgetChoice:
    """Choose the first version that leaves time for enough steps, or else the cheapest.

    The cheapest is measured first, and what it says of the others is estimated from their work. Whatever is chosen is
    measured itself before that is settled, and the one before it where that seems nearly fast enough, so that measuring
    never takes longer than a few steps of the run. What does not fit into memory is passed over, with what is larger.

    Args:
        versions: Versions, best first.
        measure: Measures one of them.
        limit_seconds: Time limit of the whole run, in seconds.
        cases: Number of held-out cases.
        iterations: Most optimiser steps of an epoch.
        wanted: Number of steps that are enough.

    Raises:
        TrainingError: If there is not time for a single step, or too little memory for the cheapest.
    """
    ordered = preferred(versions)
    first = min(range(len(ordered)), key=lambda index: ordered[index].step_work)
    measured = {first: measure(ordered[first])}
    if not measured[first].fits:
        raise TrainingError("the device has too little memory for a step of the smallest version of the plan")
    while True:
        too_large = {
            index
            for index, one in enumerate(ordered)
            for tried, cost in measured.items()
            if index <= tried and one.name == ordered[tried].name and not cost.fits
        }
        times = [
            _timetable(one, _cost(index, ordered, measured), limit_seconds, cases, iterations)
            for index, one in enumerate(ordered)
        ]
        times = [replace(time, steps=0.0) if index in too_large else time for index, time in enumerate(times)]
        chosen = _first_with_enough(ordered, times, wanted)
        before = chosen - 1
        unsure = chosen in measured and chosen > 0 and times[before].steps >= _UNSURE * _enough(before, ordered, wanted)
        one = chosen - 1 if unsure else chosen
        if one in measured:
            break
        measured[one] = measure(ordered[one])
    best, time = ordered[chosen], times[chosen]
    if time.steps < 1:
        cost = time.cost
        raise TrainingError(
            f"{limit_seconds / 60:g} minutes are not enough: setting up takes {cost.elapsed_seconds:.0f} s, "
            f"a step {cost.step_seconds:.1f} s, validating and saving {limit_seconds - time.seconds:.0f} s"
        )
    return BudgetChoice(
        name=best.name,
        configuration=best.configuration,
        steps=int(time.steps),
        wanted=wanted,
        iterations=time.iterations,
        step_seconds=time.cost.step_seconds,
        seconds=time.seconds,
        setup_seconds=time.cost.elapsed_seconds,
        held_out=time.held_out,
        considered=tuple(
            Considered(
                change=one.change if one.name == ordered[0].name else f"{one.name}: {one.change}",
                step_seconds=None if index in too_large else round(times[index].cost.step_seconds, 4),
                steps=max(0, int(times[index].steps)),
                measured=index in measured,
            )
            for index, one in enumerate(ordered[: chosen + 1])
        ),
    )


def preferred(versions: Sequence[PlanVersion]) -> list[PlanVersion]:
    """Versions in the order in which they are tried: those that see little of an image come after all that see more.

    Where a single configuration is prepared that is the order in which it is made smaller.
    """
    whole: dict[str, PlanVersion] = {}
    for one in versions:
        whole.setdefault(one.name, one)

    def sees_little(one: PlanVersion) -> bool:
        own = one.configuration
        if own.patch_size == whole[one.name].configuration.patch_size or len(whole) == 1:
            return False
        axes = [(p, n) for p, n in zip(own.patch_size, own.median_shape, strict=True) if p > 1]
        return math.prod(min(1.0, p / n) for p, n in axes) < _SEES_ENOUGH

    return sorted(versions, key=sees_little)


@dataclass(frozen=True)
class _Timetable:
    """The course of a run with a version: `steps` is below 1 where there is no time."""

    cost: Cost
    steps: float
    iterations: int
    seconds: float
    held_out: int


def _first_with_enough(versions: Sequence[PlanVersion], times: Sequence[_Timetable], wanted: int) -> int:
    """The first version with enough steps, or the cheapest; slices of volumes only where volumes leave too few."""
    volumes = [index for index, one in enumerate(versions) if min(one.configuration.patch_size) > 1]
    every = range(len(versions))
    for indices in (volumes, every) if volumes else (every,):
        cheapest = min(indices, key=lambda index: versions[index].step_work)
        chosen = next((n for n in indices if times[n].steps >= _enough(n, versions, wanted)), cheapest)
        if times[chosen].steps >= _FEWEST_STEPS:
            break
    return chosen


def _enough(index: int, versions: Sequence[PlanVersion], wanted: int) -> int:
    """Steps that are enough for a version: fewer where what comes after it has a smaller patch, and nothing else."""
    own = versions[index].configuration
    later = [one.configuration for one in versions[index + 1 :] if one.name == versions[index].name]
    only_patch = all((one.features[0], one.batch_size) == (own.features[0], own.batch_size) for one in later)
    return min(wanted, _ENOUGH_OF_A_PATCH) if only_patch else wanted


def _cost(index: int, versions: Sequence[PlanVersion], measured: Mapping[int, Cost]) -> Cost:
    """A version's cost: its own where it is measured, else from the measured one whose step is most like its own."""
    own = versions[index]
    fitting = [one for one, cost in measured.items() if cost.fits]
    like = min(fitting, key=lambda one: (abs(math.log(versions[one].step_work / own.step_work)), one != index))
    cost, other = measured[like], versions[like]
    return replace(
        cost,
        step_seconds=cost.step_seconds * own.step_work / other.step_work,
        window_seconds=cost.window_seconds * own.work / other.work,
        elapsed_seconds=max(one.elapsed_seconds for one in measured.values()),
    )


def _timetable(version: PlanVersion, cost: Cost, limit: float, cases: int, iterations: int) -> _Timetable:
    """Validation at the end takes a tenth of the time at most, unless two cases take longer."""
    batch, step, window = version.configuration.batch_size, cost.step_seconds, cost.window_seconds
    per_case = _SLOWER * (cost.case_seconds + version.windows * window)
    affordable = max(2, cost.ranks * int(_VALIDATION_SHARE * limit / per_case)) if per_case else cases
    held_out = min(cases, affordable)
    seconds = limit - SAVING_SECONDS - math.ceil(held_out / cost.ranks) * per_case  # each rank takes one at a time
    left = seconds - cost.elapsed_seconds
    # at least one case is validated after each epoch: epochs are long enough for that to be a small part of them
    least = version.windows * window + cost.saving_seconds
    epoch = max(int(left / step) // EPOCHS, math.ceil(least / (_VALIDATION_SHARE * step)))
    epoch = max(1, min(iterations, epoch))
    selecting = math.ceil(cases / 2) * version.windows  # those of every other patient
    windows = max(min(WINDOWS * epoch * batch, selecting) / cost.ranks, version.windows)  # one case is one rank's
    between = windows * window + cost.saving_seconds
    return _Timetable(cost, left / (step + between / epoch), epoch, seconds, held_out)
