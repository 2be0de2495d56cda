"""Whether an evaluation is good enough."""

from math import nan

import pytest

from unetpipe.errors import UnetpipeError
from unetpipe.evaluation.gate import gate_failures, require_measured
from unetpipe.evaluation.summary import ClassSummary, MetricSummary


def summary(**means: float) -> ClassSummary:
    return ClassSummary(
        name="organ",
        value=1,
        cases=1,
        present=1,
        missed=0,
        false_positives=0,
        true_negatives=0,
        patients=1,
        figures={metric: MetricSummary(n=1, mean=mean) for metric, mean in means.items()},
    )


def test_bounds_in_both_directions() -> None:
    """Dice must reach its bound, a distance must not exceed it, a volume error not in size; bounds included."""
    good = summary(dice=0.85, hd95_mm=3.0, volume_error_percent=-5.0)
    assert gate_failures([good], {"dice": 0.85, "hd95_mm": 3.0, "volume_error_percent": 5.0}) == []
    assert gate_failures([good], {"dice": 0.86}) == ["organ: mean dice 0.85 is not at least 0.86"]
    assert len(gate_failures([good], {"hd95_mm": 2.9, "volume_error_percent": 4.0})) == 2


def test_only_volume_errors_are_measured_by_size() -> None:
    """A metric of an extension may be negative, and lower is better still."""
    good = summary(log_hd=-0.5)
    assert gate_failures([good], {"log_hd": 0.3}, {"log_hd": False}) == []
    assert len(gate_failures([good], {"log_hd": -0.6}, {"log_hd": False})) == 1


def test_undefined_does_not_pass() -> None:
    """A metric without a value is no success."""
    assert len(gate_failures([summary(dice=nan)], {"dice": 0.1})) == 1


@pytest.mark.parametrize("metric", ["dcie", "lesion_f1"])
def test_unknown_or_unmeasured_metric(metric: str) -> None:
    """A misspelt bound is an error rather than a gate that is always open."""
    with pytest.raises(UnetpipeError, match=metric):
        gate_failures([summary(dice=1.0)], {metric: 0.5})
    with pytest.raises(UnetpipeError, match=f"cannot gate on '{metric}': it is not measured, only dice"):
        require_measured([metric], ["dice"])
