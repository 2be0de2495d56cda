"""Whether an evaluation reaches given bounds, for use in scripts."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from unetpipe.errors import UnetpipeError
from unetpipe.evaluation.summary import ClassSummary
from unetpipe.metrics.scores import HIGHER_IS_BETTER


def gate_failures(
    classes: Sequence[ClassSummary],
    bounds: Mapping[str, float],
    higher_is_better: Mapping[str, bool] = HIGHER_IS_BETTER,
) -> list[str]:
    """List each class whose mean of a bounded metric is worse than its bound, or not defined.

    Args:
        classes: Summary of each class.
        bounds: Bound of a metric by its name: a lower bound where higher is better, else an upper bound.
        higher_is_better: Whether a higher value is better, for every metric that there is.

    Raises:
        UnetpipeError: If a metric was not measured.
    """
    reasons = []
    for metric, bound in bounds.items():
        for item in classes:
            require_measured([metric], item.figures)
            mean = item.figures[metric].mean
            if higher_is_better[metric]:
                passed, relation = mean >= bound, "not at least"
            else:
                size = abs(mean) if metric.startswith("volume_error") else mean
                passed, relation = size <= bound, "not at most"
            if not passed:
                reasons.append(f"{item.name}: mean {metric} {mean:.4g} is {relation} {bound:g}")
    return reasons


def require_measured(bounded: Iterable[str], measured: Collection[str]) -> None:
    """See that metrics are among those that are measured.

    Raises:
        UnetpipeError: If one is not.
    """
    for metric in bounded:
        if metric not in measured:
            raise UnetpipeError(f"cannot gate on {metric!r}: it is not measured, only {', '.join(measured)}")
