"""Metrics that a person names: what they are given, what they are called, and which are refused before any work."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unetpipe.components import register
from unetpipe.errors import ComponentError
from unetpipe.evaluation.named_metrics import NamedMetric, find_metrics

SURFACE_DICE = {"_target_": "monai.metrics.SurfaceDiceMetric", "class_thresholds": [1.0]}
HAUSDORFF = {"_target_": "monai.metrics.HausdorffDistanceMetric"}


def found(named: Any, ndim: int = 3) -> NamedMetric:
    (metric,) = find_metrics([named], ndim)
    return metric


def point(*index: int, size: int = 12) -> np.ndarray:
    mask = np.zeros((size,) * len(index), np.bool_)
    mask[index] = True
    return mask


@register("metric", "test_centre_distance_mm")
def centre_distance_mm(reference: Any, prediction: Any, spacing_mm: Any, axis: int | None = None) -> float:
    """Distance between the centres of gravity.

    A second paragraph.
    """
    if not (reference.any() and prediction.any()):
        return math.inf
    apart = [(np.argwhere(mask).mean(0) * spacing_mm) for mask in (reference, prediction)]
    size = abs(float(reference.sum()) - float(prediction.sum())) * 1e-9  # so that dummies of one centre differ
    difference = apart[0] - apart[1]
    return size + (float(np.linalg.norm(difference)) if axis is None else abs(float(difference[axis])))


@register("metric", "test_recall")
class Recall:
    """Share of the reference that was found."""

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def __call__(self, reference: Any, prediction: Any, spacing_mm: Any) -> float:  # noqa: ARG002
        both = (reference & prediction).sum() / max(reference.sum(), prediction.sum())
        return float(both**self.power)


@pytest.mark.parametrize("ndim", [2, 3])
def test_monai_distances_take_the_spacing(ndim: int) -> None:
    """Two voxels 3 apart along an axis of 2 mm are 6 mm apart, in 2-D as in 3-D."""
    metric = found(HAUSDORFF, ndim)
    assert (metric.name, metric.higher_is_better) == ("monai_hausdorff_distance", False)
    first, second = point(*[2] * ndim), point(*[2] * (ndim - 1), 5)
    assert metric.measure(first, second, (1.0,) * (ndim - 1) + (2.0,)) == pytest.approx(6)


@pytest.mark.parametrize(
    ("definition", "name", "value"),
    [
        ({"_target_": "monai.metrics.DiceMetric"}, "monai_dice", 2 * 16 / (32 + 16)),
        ({"_target_": "monai.metrics.MeanIoU"}, "monai_mean_iou", 0.5),
        ({"_target_": "monai.metrics.ConfusionMatrixMetric", "metric_name": "recall"}, "monai_confusion_matrix", 0.5),
        ({"_target_": "monai.metrics.GeneralizedDiceScore"}, "monai_generalized_dice_score", 2 * 16 / (32 + 16)),
    ],
)
def test_monai_overlaps_are_those_of_the_class(definition: dict[str, Any], name: str, value: float) -> None:
    """The one channel is the class, and not a background that is left out."""
    reference, prediction = np.zeros((8, 8, 8), np.bool_), np.zeros((8, 8, 8), np.bool_)
    reference[:2, :4, :4] = True
    prediction[:1, :4, :4] = True
    metric = found(definition)
    assert (metric.name, metric.higher_is_better) == (name, True)
    for _ in range(2):  # a second case is not averaged with the first
        assert metric.measure(reference, prediction, (1.0, 1.0, 1.0)) == pytest.approx(value)


def test_a_registered_function_gets_masks_and_spacing() -> None:
    """A function is called as it is; a definition by its word passes it further arguments."""
    metric = found("test_centre_distance_mm")
    assert (metric.name, metric.higher_is_better) == ("test_centre_distance_mm", False)
    assert metric.measure(point(1, 1, 1), point(1, 4, 5), (1.0, 1.0, 1.0)) == pytest.approx(5)
    assert metric.measure(point(1, 1, 1), point(1, 4, 5), (1.0, 2.0, 2.0)) == pytest.approx(10)
    along = found({"_target_": "test_centre_distance_mm", "axis": 1})
    assert along.measure(point(1, 1, 1), point(1, 4, 5), (1.0, 2.0, 2.0)) == pytest.approx(6)
    assert along.meaning == "Distance between the centres of gravity. test_centre_distance_mm(axis=1)"


def test_a_registered_class_is_built_with_its_arguments() -> None:
    """A class is built once, and its instance called."""
    metric = found({"_target_": "test_recall", "power": 2.0})
    both = point(1, 1) | point(1, 2)
    assert metric.higher_is_better
    assert metric.measure(both, point(1, 1), (1.0, 1.0)) == pytest.approx(0.25)


def test_what_is_not_defined_is_nan() -> None:
    """Two empty masks are never compared, and an infinity does not enter a mean."""
    empty = np.zeros((12, 12, 12), np.bool_)
    metric = found("test_centre_distance_mm")
    assert math.isnan(metric.measure(empty, empty, (1.0, 1.0, 1.0)))
    assert math.isnan(metric.measure(empty, point(1, 1, 1), (1.0, 1.0, 1.0)))


def test_metrics_of_one_name_are_numbered_and_described() -> None:
    """Two tolerances of one metric are two columns, and the definitions say which is which."""
    metrics = find_metrics([SURFACE_DICE, SURFACE_DICE | {"class_thresholds": [2.0], "_desc_": "NSD at 2 mm."}], 3)
    assert [metric.name for metric in metrics] == ["monai_surface_dice", "monai_surface_dice_2"]
    assert metrics[0].meaning == "monai.metrics.SurfaceDiceMetric(class_thresholds=[1.0]) of MONAI."
    assert metrics[1].meaning == "NSD at 2 mm. monai.metrics.SurfaceDiceMetric(class_thresholds=[2.0])"


def _volume_error(reference: Any, prediction: Any, spacing_mm: Any) -> float:  # noqa: ARG001
    return float(prediction.sum()) - float(reference.sum())


def _reference_volume(reference: Any, prediction: Any, spacing_mm: Any) -> float:  # noqa: ARG001
    return float(reference.sum())


def _writes(reference: Any, prediction: Any, spacing_mm: Any) -> float:  # noqa: ARG001
    reference[0] = True
    return 1.0


@pytest.mark.parametrize(
    ("name", "metric", "message"),
    [
        (
            "test_signed",
            _volume_error,
            "does not say whether higher is better: it gives 0 .* -1.* too small and 6.* too large",
        ),
        ("test_blind", _reference_volume, "does not say whether higher is better"),
        ("test_writes", _writes, "test_writes fails: assignment destination is read-only"),
        ("test_text", lambda reference, prediction, spacing_mm: "good", "test_text fails: could not convert"),  # noqa: ARG005
        ("test_nan", lambda reference, prediction, spacing_mm: math.nan, "gives no finite number"),  # noqa: ARG005
        ("test_short", lambda: 1.0, "test_short fails"),
        ("dice", _writes, "'dice' is the package's own"),
    ],
)
def test_what_is_no_metric_is_refused(name: str, metric: Callable[..., Any], message: str) -> None:
    """What fails, changes its input or cannot tell right from wrong is refused in one line before any file is read."""
    register("metric", name)(metric)
    with pytest.raises(ComponentError, match=message) as raised:
        find_metrics([name], 3)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("test_nowhere", "there is no metric 'test_nowhere'"),
        ({"_target_": "monai.metrics.SurfaceDiceMetric"}, "cannot be built: .*class_thresholds"),
        (SURFACE_DICE | {"class_thresholds": [1.0, 2.0]}, "fails: "),
        ({"_target_": "monai.metrics.PanopticQualityMetric", "num_classes": 2}, "metric"),
        ({"_target_": "monai.losses.DiceLoss"}, "there is no metric"),
    ],
)
def test_definitions_that_do_not_fit_are_refused(definition: Any, message: str) -> None:
    """MONAI's own complaint becomes one line that names the metric."""
    with pytest.raises(ComponentError, match=message) as raised:
        find_metrics([definition], 3)
    assert "\n" not in str(raised.value)
