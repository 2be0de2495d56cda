"""All metrics of one case; the table of empty masks, row by row."""

from math import isnan, nan

import numpy as np
import pytest

from unetpipe.imaging.geometry import Grid
from unetpipe.metrics.scores import HIGHER_IS_BETTER, ClassScore, absent_score, score_case

GRID = Grid.of((12, 10, 8), np.diag([2.0, 1.0, 0.5, 1.0]))
EMPTY, CUBE = np.zeros(GRID.shape, np.int16), np.zeros(GRID.shape, np.int16)
CUBE[2:6, 2:6, 2:6] = 1
CUBE_ML = 0.064


def score(reference: np.ndarray, prediction: np.ndarray | None) -> ClassScore:
    return score_case("case", reference, prediction, GRID, {1: 1.0}, lesions=True)[0]


ROWS = {
    # outcome, Dice = IoU = NSD, sensitivity, precision, distances, volume error in ml and in %
    "voxels / voxels": (CUBE, CUBE, "matched", 1, 1, 1, 0, 0, 0),
    "empty / empty": (EMPTY, EMPTY, "true_negative", nan, nan, nan, nan, 0, nan),
    "empty / voxels": (EMPTY, CUBE, "false_positive", 0, nan, 0, nan, CUBE_ML, nan),
    "voxels / empty": (CUBE, EMPTY, "missed", 0, 0, nan, nan, -CUBE_ML, -100),
    "voxels / no file": (CUBE, None, "no_prediction", 0, 0, nan, nan, -CUBE_ML, -100),
    "empty / no file": (EMPTY, None, "no_prediction", nan, nan, nan, nan, 0, nan),
}


@pytest.mark.parametrize("row", ROWS)
def test_policy_for_empty_masks(row: str) -> None:
    """Each row of the documented table holds, and no value is infinite."""
    reference, prediction, outcome, overlap, sensitivity, precision, distance, error_ml, error_percent = ROWS[row]
    result = score(reference, prediction)
    metrics = result.metrics()
    assert result.outcome == outcome
    expected = {
        **dict.fromkeys(("dice", "iou", "nsd"), overlap),
        "sensitivity": sensitivity,
        "precision": precision,
        **dict.fromkeys(("hd_mm", "hd95_mm", "assd_mm", "masd_mm"), distance),
        "volume_error_ml": error_ml,
        "volume_error_percent": error_percent,
    }
    assert {key: metrics[key] for key in expected} == pytest.approx(expected, nan_ok=True)
    assert not np.isinf(list(metrics.values())).any()
    assert set(metrics) <= set(HIGHER_IS_BETTER)


@pytest.mark.parametrize("predicted", [True, False])
def test_absent_class_scores_like_two_empty_masks(predicted: bool) -> None:
    """A class that a case does not hold at all is scored as two empty masks are."""
    absent = absent_score("case", 1, 1.0, predicted=predicted, lesions=True)
    measured = score(EMPTY, EMPTY if predicted else None)
    assert absent.outcome == measured.outcome
    assert absent.metrics() == pytest.approx(measured.metrics(), nan_ok=True)


def test_volumes_come_from_the_header_spacing() -> None:
    """64 voxels of 2 x 1 x 0.5 mm are 0.064 ml."""
    assert score(CUBE, CUBE).reference_ml == pytest.approx(CUBE_ML)


def test_threads_and_crops_change_nothing() -> None:
    """Every class scores as it does alone on the whole volume, with one thread or two; other values are background."""
    random = np.random.default_rng(3)
    reference, prediction = (random.choice([0, 3, 700, 50_000], GRID.shape).astype(np.int32) for _ in range(2))
    tolerances = {3: 0.5, 50_000: 2.0}
    both = [score_case("case", reference, prediction, GRID, tolerances, workers=workers) for workers in (1, 2)]
    assert both[0] == both[1]
    for item in both[0]:
        masks = ((labels == item.value).astype(np.uint8) for labels in (reference, prediction))
        (alone,) = score_case("case", *masks, GRID, {1: tolerances[item.value]})
        assert item.metrics() == alone.metrics()
        assert item.tolerance_mm == tolerances[item.value]


@pytest.mark.parametrize("values", [(-5, 7), (1, 4_000_000)])
def test_any_label_values(values: tuple[int, int]) -> None:
    """Negative and huge label values are classes like others."""
    labels = np.where(CUBE == 1, values[0], EMPTY).astype(np.int32)
    labels[8:, 8:] = values[1]
    scores = score_case("case", labels, labels, GRID, dict.fromkeys(values, 1.0))
    assert [item.metrics()["dice"] for item in scores] == [1, 1]


def test_two_dimensions() -> None:
    """Label images are scored with pixel areas and contour lengths."""
    grid = Grid.of((12, 10), np.diag([2.0, 1.0, 1.0, 1.0]))
    (item,) = score_case("case", CUBE[:, :, 3], np.roll(CUBE[:, :, 3], 1, axis=1), grid, {1: 1.0})
    assert item.metrics()["dice"] == pytest.approx(0.75)
    assert item.metrics()["hd_mm"] == 1.0
    assert item.reference_ml == pytest.approx(16 * 2 / 1000)


def test_lesions_only_on_request() -> None:
    """Components are not counted unless asked for."""
    assert score(CUBE, CUBE).metrics()["lesion_f1"] == 1
    (item,) = score_case("case", CUBE, CUBE, GRID, {1: 1.0})
    assert "lesion_f1" not in item.metrics()
    assert isnan(score(EMPTY, EMPTY).metrics()["lesion_f1"])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("apart", [2, 7])
def test_distances_follow_a_sheared_grid(order: str, apart: int) -> None:
    """A tilted gantry's slices lie beside each other: two steps back and two slices up are two slices, and no more."""
    affine = np.eye(4)
    affine[1, 2] = 1.0
    ours, theirs = np.zeros((2, 12, 12, 12), np.uint8)
    ours[5, 1 + apart, 2] = theirs[5, 1, 2 + apart] = 1
    arrays = (np.asarray(one, order=order) for one in (ours, theirs))  # type: ignore[call-overload] # its types name both
    (item,) = score_case("case", *arrays, Grid.of((12, 12, 12), affine), {1: 1.0})
    assert item.metrics()["hd_mm"] == pytest.approx(apart)
