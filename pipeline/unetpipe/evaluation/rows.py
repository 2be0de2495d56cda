"""What a command shows of an evaluation: rounded figures, a row for each class, comparison and group."""

import math
from collections.abc import Sequence

from unetpipe.documents import Record
from unetpipe.evaluation.document import Evaluation
from unetpipe.evaluation.predicted_dice import PredictionCheck
from unetpipe.evaluation.summary import MetricSummary


class ClassRow(Record):
    """Rounded means of one class over the cases.

    Attributes:
        name: Name of the class, after that of the model if there are several.
        missed: Cases whose prediction misses the class, of all cases whose reference holds it.
        false: Number of cases where only the prediction holds the class.
    """

    name: str
    missed: str
    false: int
    dice: float | None
    dice_95: str
    nsd: float | None
    hd95_mm: float | None
    volume_pct: float | None


class FurtherRow(Record):
    """Rounded mean of a metric that was asked for, of one class over the cases.

    Attributes:
        name: Name of the class, after that of the model if there are several.
        n: Number of patients for whom the metric is defined.
    """

    name: str
    metric: str
    n: int
    mean: float | None
    mean_95: str


class ComparisonRow(Record):
    """Mean difference in Dice of one class, the named model minus the first model."""

    name: str
    difference: float | None
    difference_95: str
    p_corrected: float | None
    better: str


class GroupRow(Record):
    """Mean Dice of one class in one group of cases, and the gap between the groups.

    Attributes:
        name: Column and group, after the model if there are several.
        gap: Largest minus smallest mean Dice of the column's groups.
        p_corrected: Corrected p-value of the gap.
    """

    name: str
    class_name: str
    patients: int
    dice: float | None
    dice_95: str
    gap: float | None
    p_corrected: float | None


def class_rows(evaluation: Evaluation) -> tuple[ClassRow, ...]:
    """The figures asked for most, of every class of every model."""
    return tuple(
        ClassRow(
            name=_full_name(model.name, item.name, evaluation),
            missed=f"{item.missed} of {item.present}",
            false=item.false_positives,
            dice=_mean(item.figures["dice"]),
            dice_95=interval(item.figures["dice"].low, item.figures["dice"].high),
            nsd=_mean(item.figures["nsd"]),
            hd95_mm=_mean(item.figures["hd95_mm"]),
            volume_pct=_mean(item.figures["volume_error_percent"]),
        )
        for model in evaluation.models
        for item in model.classes
    )


def further_rows(evaluation: Evaluation, metrics: Sequence[str]) -> tuple[FurtherRow, ...]:
    """The figures of some metrics, of every class of every model."""
    return tuple(
        FurtherRow(
            name=_full_name(model.name, item.name, evaluation),
            metric=metric,
            n=(figure := item.figures[metric]).n,
            mean=_mean(figure),
            mean_95=interval(figure.low, figure.high),
        )
        for model in evaluation.models
        for item in model.classes
        for metric in metrics
        if metric in item.figures
    )


def comparison_rows(evaluation: Evaluation) -> tuple[ComparisonRow, ...]:
    """Every further model against the first, in Dice."""
    return tuple(
        ComparisonRow(
            name=_full_name(comparison.model, item.name, evaluation),
            difference=item.mean if item.n else None,
            difference_95=interval(item.low, item.high),
            p_corrected=item.p_corrected if item.n else None,
            better={"model": comparison.model, "baseline": comparison.baseline}.get(item.better, item.better),
        )
        for comparison in evaluation.comparisons
        for item in comparison.differences
        if item.metric == "dice"
    )


def group_rows(evaluation: Evaluation) -> tuple[GroupRow, ...]:
    """Every group of cases that was asked for, in Dice."""
    rows = []
    for one in evaluation.subgroups:
        for group in one.groups:
            for item in group.classes:
                figure, gap = item.figures["dice"], one.gap_of(item.name, "dice")
                rows.append(
                    GroupRow(
                        name=_full_name(one.model, f"{one.column} {group.name}", evaluation),
                        class_name=item.name,
                        patients=figure.n,
                        dice=_mean(figure),
                        dice_95=interval(figure.low, figure.high),
                        gap=None if math.isnan(gap.gap) else round(gap.gap, 3),
                        p_corrected=None if math.isnan(gap.p_corrected) else gap.p_corrected,
                    )
                )
    return tuple(rows)


def prediction_rows(evaluation: Evaluation) -> tuple[PredictionCheck, ...]:
    """Predicted against measured Dice, rounded."""
    rounded = ("mean_error", "mean_absolute_error", "covered", "auroc")
    return tuple(
        one.model_copy(update={key: round(getattr(one, key), 3) for key in rounded})
        for one in evaluation.predicted_dice
    )


def _full_name(model: str, name: str, evaluation: Evaluation) -> str:
    return f"{model}: {name}" if len(evaluation.models) > 1 else name


def _mean(figure: MetricSummary) -> float | None:
    if not figure.n:
        return None
    return round(figure.mean, 3) if abs(figure.mean) >= 0.1 else float(f"{figure.mean:.3g}")  # of cells 1e-10 ml


def interval(low: float, high: float, digits: int = 3) -> str:
    """An interval for people; a dash where there is none."""
    return f"{low:.{digits}f} to {high:.{digits}f}" if low <= high else "-"
