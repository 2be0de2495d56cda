"""Comparing models on the same cases."""

from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest
from scipy import stats

from unetpipe.evaluation.comparison import Difference, compare, holm
from unetpipe.metrics.overlap import Overlap
from unetpipe.metrics.scores import ClassScore
from unetpipe.metrics.surface import SurfaceScores


def scores(dice: np.ndarray, hd_mm: np.ndarray | None = None, value: int = 1) -> list[ClassScore]:
    return [
        ClassScore(
            case=f"case_{number:02d}",
            value=value,
            outcome="matched",
            overlap=Overlap(both=round(1e6 * score), reference=1_000_000, prediction=1_000_000),
            surface=SurfaceScores(hd_mm=nan if hd_mm is None else hd_mm[number]),
            lesions=None,
            tolerance_mm=1.0,
            voxel_ml=1e-3,
        )
        for number, score in enumerate(dice)
    ]


def of(differences: tuple[Difference, ...], metric: str, name: str = "organ") -> Difference:
    return next(item for item in differences if (item.metric, item.name) == (metric, name))


RANDOM = np.random.default_rng(0)
BASE = RANDOM.uniform(0.6, 0.8, 30)


def test_better_model_is_found() -> None:
    """Constantly higher Dice is better, with scipy's p-value and the true difference inside its interval."""
    gain = RANDOM.normal(0.05, 0.02, 30)
    (comparison,) = compare({"a": scores(BASE), "b": scores(BASE + gain)}, {1: "organ"}, {}, seed=0)
    dice = of(comparison.differences, "dice")
    assert (comparison.baseline, comparison.model) == ("a", "b")
    assert dice.better == "model"
    assert dice.low < 0.05 < dice.high
    assert dice.mean == pytest.approx(gain.mean(), abs=1e-6)
    assert dice.p == pytest.approx(stats.wilcoxon(gain).pvalue, rel=1e-3)
    assert [abs(item.difference) for item in dice.most] == pytest.approx(sorted(abs(gain))[:-6:-1], abs=1e-5)


def test_ranks_against_the_mean_are_undecided() -> None:
    """Many small gains are significant, but not for a model whose two failures make its mean worse; nor against it."""
    gain = np.append(np.arange(1, 29) / 1000, [-0.55, -0.58])
    found = compare({"a": scores(BASE), "b": scores(BASE + gain)}, {1: "organ"}, {}, seed=0)
    dice = of(found[0].differences, "dice")
    assert dice.p_corrected < 0.05
    assert dice.mean < 0 < dice.side
    assert dice.better == "undecided"


def test_p_values_do_not_depend_on_the_unit() -> None:
    """Volumes of nanometres are compared as those of millimetres are."""
    errors = RANDOM.normal(0, 1000, (2, 20)).round().astype(int)

    def of_size(voxel_ml: float) -> list[Difference]:
        models = {
            name: [
                replace(
                    one, voxel_ml=voxel_ml, overlap=Overlap(both=900_000, reference=10**6, prediction=10**6 + error)
                )
                for one, error in zip(scores(BASE[:20]), column.tolist(), strict=True)
            ]
            for name, column in zip("ab", errors * [[1], [2]], strict=True)
        }
        return [of(one.differences, "volume_error_ml") for one in compare(models, {1: "organ"}, {}, seed=0)]

    (large,), (small,) = of_size(1e-3), of_size(1e-19)
    assert large.p == small.p < 0.2
    assert large.side == small.side


def test_shorter_distance_is_better() -> None:
    """For distances the smaller mean wins."""
    far, near = RANDOM.uniform(3, 4, 30), RANDOM.uniform(1, 2, 30)
    (comparison,) = compare({"a": scores(BASE, far), "b": scores(BASE, near)}, {1: "organ"}, {}, seed=0)
    assert of(comparison.differences, "hd_mm").better == "model"
    assert of(comparison.differences, "dice").better == "undecided"


def test_same_scores_are_undecided() -> None:
    """Identical models differ by nothing, with p = 1 and no case listed."""
    (comparison,) = compare({"a": scores(BASE), "b": scores(BASE)}, {1: "organ"}, {}, seed=0)
    dice = of(comparison.differences, "dice")
    assert (dice.mean, dice.p, dice.p_corrected, dice.better, dice.most) == (0, 1, 1, "undecided", ())


def test_undefined_values_are_left_out_in_pairs() -> None:
    """A case without a distance by one model is compared by neither."""
    hd = np.full(30, 2.0)
    gone = hd + 1
    gone[:10] = nan
    (comparison,) = compare({"a": scores(BASE, hd), "b": scores(BASE, gone)}, {1: "organ"}, {}, seed=0)
    assert of(comparison.differences, "hd_mm").n == 20
    assert of(comparison.differences, "nsd").n == 0
    assert isnan(of(comparison.differences, "nsd").p)


def test_correction_counts_classes() -> None:
    """With two classes the smaller p-value doubles."""
    gain = np.where(np.arange(30) % 3, 0.01, -0.012)
    two = {
        "a": scores(BASE) + scores(BASE, value=2),
        "b": scores(BASE + gain) + scores(BASE + 0.1, value=2),
    }
    (comparison,) = compare(two, {1: "organ", 2: "other"}, {}, seed=0)
    other = of(comparison.differences, "dice", "other")
    assert other.p_corrected == pytest.approx(2 * other.p)


def test_patients_count_once() -> None:
    """Ten scans of each patient do not make ten times the evidence."""
    patients = {f"case_{number:02d}": f"p{number % 3}" for number in range(30)}
    (comparison,) = compare({"a": scores(BASE), "b": scores(BASE + 0.1)}, {1: "organ"}, patients, seed=0)
    dice = of(comparison.differences, "dice")
    assert dice.n == 3
    assert dice.better == "undecided"


def test_holm_is_the_textbook_example() -> None:
    """Step-down correction, monotone, capped at 1, NaN ignored."""
    assert holm([0.01, 0.04, nan, 0.03, 0.005]) == pytest.approx([0.03, 0.06, nan, 0.06, 0.02], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
