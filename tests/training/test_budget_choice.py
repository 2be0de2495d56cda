"""The choice of a plan for a time budget, on devices whose every cost is known."""

import math
from collections.abc import Iterator
from typing import Any

import pytest

from unetpipe.dataset.planning.plan import Configuration
from unetpipe.dataset.planning.reduction import patch_work, reductions
from unetpipe.errors import TrainingError
from unetpipe.training.budget_choice import BudgetChoice, Cost, PlanVersion, choose, preferred


class Device:
    """Takes so many seconds for the plan's step, and others in proportion to their work, or to a power of it."""

    def __init__(self, plan_step: float, *, power: float = 1.0, case_seconds: float = 0.0, ranks: int = 1) -> None:
        self.plan_step, self.power, self.case_seconds, self.ranks = plan_step, power, case_seconds, ranks
        self.elapsed = 0.0
        self.measured: list[str] = []

    def choose(
        self, versions: list[PlanVersion], minutes: float, *, wanted: int = 1000, cases: int = 4
    ) -> BudgetChoice:
        plan = versions[0].step_work

        def measure(one: PlanVersion) -> Cost:
            step = self.plan_step * (one.step_work / plan) ** self.power
            self.measured.append(one.change)
            self.elapsed += 3 * step
            return Cost(
                step_seconds=step,
                window_seconds=step / (3 * one.configuration.batch_size),  # forward; back to inputs and to weights
                case_seconds=self.case_seconds,
                ranks=self.ranks,
                saving_seconds=0.0,
                elapsed_seconds=self.elapsed,
            )

        return choose(versions, measure, limit_seconds=60 * minutes, cases=cases, iterations=250, wanted=wanted)


def versions(plan: Configuration, name: str = "3d_fullres") -> list[PlanVersion]:
    """All versions of a configuration."""
    return list(_versions(plan, name))


def _versions(plan: Configuration, name: str) -> Iterator[PlanVersion]:
    for one in reductions(plan):
        patch = one.configuration.patch_size
        windows = math.prod(max(1, math.ceil(2 * n / p) - 1) for n, p in zip(plan.median_shape, patch, strict=True))
        yield PlanVersion(
            name=name,
            configuration=one.configuration,
            change=one.change,
            work=patch_work(one.configuration, 1, 2),
            windows=windows,
        )


def test_the_plan_is_kept_where_there_is_time_for_it(heart: Configuration) -> None:
    """1000 steps and validation fit: nothing is made smaller, and the reason says so."""
    found = Device(0.5).choose(versions(heart), 15)
    assert found.configuration == heart
    assert [one.change for one in found.considered] == ["the plan"]
    assert found.steps >= 1000
    assert "the plan as it is" in found.sentence


def test_slow_devices_get_the_first_version_with_enough_steps(retina: Configuration) -> None:
    """The version before the chosen one would not get them, and the chosen one was measured itself."""
    found = Device(8.0).choose(versions(retina, "2d"), 15)
    *before, last = found.considered
    assert last.steps >= 1000 > max(one.steps for one in before)
    assert last.measured
    assert found.configuration.patch_size == (320, 320)
    assert before[0].change == "the plan"
    assert "640x640 to 320x640" in found.sentence


def test_fewer_steps_are_enough_for_a_larger_patch(retina: Configuration) -> None:
    """Where the network is as narrow as it gets, its patch is not made smaller for a thousand steps, but for 500."""
    found = Device(6.0).choose(versions(retina, "2d"), 5)
    assert (found.configuration.features[0], found.configuration.patch_size) == (16, (320, 320))
    assert 500 <= found.steps < 1000


def test_too_slow_for_enough_steps_takes_the_version_with_most(retina: Configuration) -> None:
    """A run is not refused as long as something can be learned."""
    found = Device(500.0).choose(versions(retina, "2d"), 5)
    assert found.configuration.patch_size == (80, 80)
    assert 1 <= found.steps < 1000


def test_ranks_divide_held_out_cases_and_not_a_case(heart: Configuration) -> None:
    """Four of them have time for more cases than one, and keep no more time for them."""
    alone, four = (
        Device(0.5, case_seconds=8.0, ranks=ranks).choose(versions(heart), 15, cases=160) for ranks in (1, 4)
    )
    assert four.held_out == 4 * alone.held_out
    assert 900 - four.seconds == pytest.approx(900 - alone.seconds)
    few = Device(0.5, case_seconds=160.0, ranks=4).choose(versions(heart), 15, cases=160)
    assert few.held_out == 2
    assert 900 - few.seconds >= 160, "both at once, and neither in a part of its time"


def test_without_time_for_a_step_is_an_error(retina: Configuration) -> None:
    """One line with what takes the time."""
    with pytest.raises(TrainingError, match=r"1 minutes are not enough: setting up takes \d+ s, a step"):
        Device(50_000.0).choose(versions(retina, "2d"), 1)


@pytest.mark.parametrize("power", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("plan_step", [0.02, 0.3, 5.0, 60.0])
def test_measuring_is_cheap_even_where_work_predicts_badly(
    plan_step: float, power: float, heart: Configuration
) -> None:
    """The choice is what measuring everything would give, or one further, and a few steps of a run are spent on it."""
    every = versions(heart)
    device = Device(plan_step, power=power)
    found = device.choose(every, 15)
    assert device.elapsed < 0.05 * 900
    assert len(device.measured) == len(set(device.measured)) <= 5
    alone = [Device(plan_step * (one.step_work / every[0].step_work) ** power).choose([one], 15) for one in every]
    enough = [500 if one.configuration.features[0] == 16 else 1000 for one in alone]
    best = next((n for n, one in enumerate(alone) if one.steps >= enough[n]), len(alone) - 1)
    assert found.configuration in [one.configuration for one in alone[best : best + 2]]


def test_few_steps_that_were_asked_for_are_enough(retina: Configuration) -> None:
    """With `--epochs` as well as minutes the plan stays where its few steps fit."""
    assert Device(8.0).choose(versions(retina, "2d"), 15, wanted=60).configuration == retina


def test_validation_takes_a_tenth_at_the_most(heart: Configuration) -> None:
    """Of many held-out cases so many are predicted; two at the least, so that one of them decides nothing."""
    found = Device(0.1, case_seconds=4.0).choose(versions(heart), 15, cases=162)
    assert 10 <= found.held_out <= 18
    assert 900 - found.seconds <= 0.1 * 900 + 5
    assert Device(0.1).choose(versions(heart), 15, cases=162).held_out == 162
    assert Device(0.1, case_seconds=200.0).choose(versions(heart), 15, cases=162).held_out == 2


def test_epochs_are_long_enough_for_their_validation(heart: Configuration) -> None:
    """Twenty epochs, or fewer where validating one case would take more than a tenth of an epoch."""
    short = Device(0.1).choose(versions(heart), 5)
    assert short.steps / short.iterations == pytest.approx(20, rel=0.3)
    many = [PlanVersion(**{**vars(one), "windows": 500.0}) for one in versions(heart)]
    assert Device(0.1).choose(many, 5).iterations > 1.5 * short.iterations


def test_slices_only_where_volumes_leave_too_little_time(heart: Configuration, heart_slices: Configuration) -> None:
    """A 2-D configuration that is prepared takes over where volumes get fewer than a hundred steps."""
    both = versions(heart) + versions(heart_slices, "2d")
    assert Device(20.0).choose(both, 5).name == "3d_fullres"
    slow = Device(600.0).choose(both, 5)
    assert slow.name == "2d"
    assert slow.considered[-1].change.startswith("2d: ")


def test_what_sees_little_of_an_image_comes_last(heart: Configuration) -> None:
    """Where a low resolution is prepared, it is tried before full resolution is cut below a quarter of the image."""
    full = heart.model_copy(update={"batch_size": 2})
    low = full.model_copy(update={"median_shape": (112, 128, 10)})
    order = preferred(versions(full) + versions(low, "3d_lowres"))
    first_low = next(index for index, one in enumerate(order) if one.name == "3d_lowres")
    assert all(one.configuration.patch_size[0] * one.configuration.patch_size[1] < 0.25 * 224 * 256
               for one in order[first_low:] if one.name == "3d_fullres")  # fmt: skip
    alone = versions(full)
    assert preferred(alone) == alone


def test_what_does_not_fit_into_memory_is_passed_over(heart: Configuration) -> None:
    """The plan would be fast enough; the next version that fits is taken, and the reason says so."""
    every = versions(heart)

    tried: list[int] = []

    def measure(one: PlanVersion, fitting: int) -> Cost:
        tried.append(every.index(one))
        step = 0.01 if tried[-1] >= fitting else math.inf
        return Cost(
            step_seconds=step, window_seconds=0.001, case_seconds=0.01, saving_seconds=0.0, elapsed_seconds=len(tried)
        )

    options: dict[str, Any] = {"limit_seconds": 3600, "cases": 4, "iterations": 250}
    found = choose(every, lambda one: measure(one, 2), **options)
    assert found.configuration == every[2].configuration
    assert [one.step_seconds is None for one in found.considered] == [True, True, False]
    assert found.setup_seconds == len(tried)
    assert found.sentence.startswith("the device has too little memory for the plan, so that it is made smaller: ")
    with pytest.raises(TrainingError, match=r"too little memory for a step of the smallest version"):
        choose(every, lambda one: measure(one, len(every)), **options)


def test_where_no_volume_fits_slices_are_learned(heart: Configuration, heart_slices: Configuration) -> None:
    """Each volume is tried once at the most."""
    every, tried = versions(heart) + versions(heart_slices, "2d"), list[str]()

    def measure(one: PlanVersion) -> Cost:
        tried.append(one.name)
        return Cost(
            step_seconds=0.01 if one.name == "2d" else math.inf,
            window_seconds=0.001,
            case_seconds=0.01,
            saving_seconds=0.0,
            elapsed_seconds=1.0,
        )

    found = choose(every, measure, limit_seconds=600, cases=4, iterations=250)
    assert found.name == "2d"
    assert tried.count("3d_fullres") <= len(versions(heart))
