"""Figures by group, and gaps between groups that chance does not explain."""

from math import nan

import numpy as np
import pytest
from scipy import stats

from unetpipe.evaluation import subgroups
from unetpipe.evaluation.subgroups import Subgroups, compare_subgroups
from unetpipe.metrics.overlap import Overlap
from unetpipe.metrics.scores import ClassScore
from unetpipe.metrics.surface import SurfaceScores


def score(case: str, dice: float, hd_mm: float = nan) -> ClassScore:
    return ClassScore(
        case=case,
        value=1,
        outcome="matched",
        overlap=Overlap(both=round(1e6 * dice), reference=1_000_000, prediction=1_000_000),
        surface=SurfaceScores(hd_mm=hd_mm),
        lesions=None,
        tolerance_mm=1.0,
        voxel_ml=1e-3,
    )


def split(scores: list[ClassScore], scanner: dict[str, str], patients: dict[str, str] | None = None) -> Subgroups:
    (found,) = compare_subgroups({"model": scores}, {1: "organ"}, patients or {}, {"scanner": scanner}, seed=0)
    return found


def test_a_gap_that_was_planted_is_beyond_chance() -> None:
    """A gap of 0.1 between groups of 20 with a spread of 0.05 is found, with its size and direction."""
    random = np.random.default_rng(0)
    dice = {"a": random.normal(0.8, 0.05, 20), "b": random.normal(0.7, 0.05, 20)}
    scores = [score(f"{group}{n}", value) for group, values in dice.items() for n, value in enumerate(values)]
    found = split(scores, {one.case: one.case[0] for one in scores})
    gap = found.gap_of("organ", "dice")
    assert (gap.highest, gap.lowest, gap.beyond_chance) == ("a", "b", True)
    assert gap.gap == pytest.approx(dice["a"].mean() - dice["b"].mean(), abs=1e-5)
    assert [group.classes[0].figures["dice"].mean for group in found.groups] == pytest.approx(
        [dice["a"].mean(), dice["b"].mean()], abs=1e-5
    )


def test_p_values_are_scipys() -> None:
    """The same permutation test by scipy, for groups that differ little; equal to within the random deals' error."""
    random = np.random.default_rng(1)
    dice = {group: random.normal(mean, 0.05, 12) for group, mean in (("a", 0.75), ("b", 0.73), ("c", 0.72))}
    scores = [score(f"{group}{n}", value) for group, values in dice.items() for n, value in enumerate(values)]

    def spread(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        means = np.stack([sample.mean(axis) for sample in samples])
        return means.max(0) - means.min(0)

    expected = stats.permutation_test(
        tuple(dice.values()), spread, vectorized=True, n_resamples=9999, alternative="greater", rng=2
    ).pvalue
    assert split(scores, {one.case: one.case[0] for one in scores}).gap_of("organ", "dice").p == pytest.approx(
        expected, abs=0.02
    )


def test_chance_alone_is_rarely_taken_for_a_gap() -> None:
    """Among 200 splits of equal patients, about 5 % have p below 0.05."""
    random = np.random.default_rng(3)
    below = 0
    for _ in range(200):
        scores = [score(f"c{n}", value) for n, value in enumerate(random.normal(0.8, 0.05, 16))]
        found = split(scores, {f"c{n}": "a" if n < 6 else "b" for n in range(16)})
        below += found.gap_of("organ", "dice").p < 0.05
    assert 2 <= below <= 22


def test_scans_of_one_patient_count_once() -> None:
    """Ten scans of one patient are one value: a gap that hangs on them is not beyond chance."""
    scores = [score(f"a{n}", 0.5) for n in range(10)] + [score(f"b{n}", 0.8 + n / 100) for n in range(10)]
    patients = {f"a{n}": "one" for n in range(10)}
    found = split(scores, {one.case: one.case[0] for one in scores}, patients)
    assert [group.classes[0].patients for group in found.groups] == [1, 10]
    assert not found.gap_of("organ", "dice").beyond_chance
    assert split(scores, {one.case: one.case[0] for one in scores}).gap_of("organ", "dice").beyond_chance


def test_what_is_not_defined_takes_no_part() -> None:
    """A metric that is defined in one group only has no gap; a case without a value is in no group, and counted."""
    scores = [score("a0", 0.8, 3.0), score("a1", 0.8, 4.0), score("b0", 0.8), score("b1", 0.8), score("c", 0.1)]
    found = split(scores, {"a0": "a", "a1": "a", "b0": "b", "b1": "b"})
    assert np.isnan(found.gap_of("organ", "hd_mm").gap)
    assert np.isnan(found.gap_of("organ", "hd_mm").p_corrected)
    assert found.gap_of("organ", "dice").gap == 0
    assert (found.not_given, [group.name for group in found.groups]) == (1, ["a", "b"])


def test_many_tests_need_more_certainty() -> None:
    """Holm's correction goes over all classes and columns of a metric."""
    scores = [score(f"a{n}", 0.80 + n / 50) for n in range(6)] + [score(f"b{n}", 0.70 + n / 50) for n in range(6)]
    scanner = {one.case: one.case[0] for one in scores}
    one = split(scores, scanner).gap_of("organ", "dice")
    columns = {f"column{n}": scanner for n in range(20)}
    many = compare_subgroups({"model": scores}, {1: "organ"}, {}, columns, seed=0)[0].gap_of("organ", "dice")
    assert many.p == one.p == one.p_corrected
    assert many.p_corrected == pytest.approx(20 * one.p)


def test_only_patients_with_a_value_are_dealt_out() -> None:
    """One patient of a group has a distance: its gap is one of twenty that are as likely, and no discovery."""
    scores = [score("a0", 0.8, 19.0), *(score(f"a{n}", 0.8) for n in range(1, 20))]
    scores += [score(f"b{n}", 0.8, float(n)) for n in range(19)]
    gap = split(scores, {one.case: one.case[0] for one in scores}).gap_of("organ", "hd_mm")
    assert gap.p == pytest.approx(0.1, abs=0.01)
    assert not gap.beyond_chance


def test_deals_come_in_parts_that_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few at a time, they are the same deals."""
    scores = [score(f"{'ab'[n % 2]}{n}", 0.7 + 0.01 * n) for n in range(9)]
    scanner = {one.case: one.case[0] for one in scores}
    expected = split(scores, scanner).gap_of("organ", "dice").p
    monkeypatch.setattr(subgroups, "_CELLS", 1)
    assert split(scores, scanner).gap_of("organ", "dice").p == expected


def test_groups_are_in_the_order_of_their_numbers() -> None:
    """As text 10 would come before 9; what is no number comes last."""
    grades = {"a": "10", "b": "9", "c": "unknown", "d": "1.5", "e": "-2", "f": "3"}
    found = split([score(case, 0.9) for case in grades], grades)
    assert [group.name for group in found.groups] == ["-2", "1.5", "3", "9", "10", "unknown"]
