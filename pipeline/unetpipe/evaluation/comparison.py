"""Which of two models is better: paired differences of each class, their certainty, and the cases they come from.

A difference is model minus baseline in the same patient, over the patients where both have a value. The p-value is that
of Wilcoxon's signed-rank test, corrected by Holm over all classes (and all models, if several are compared with the
baseline) of one metric. A model counts as better where the corrected p-value is below 0.05.

Source:
    Holm 1979, Scand. J. Stat. 6:65; Demšar 2006, J. Mach. Learn. Res. 7:1.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unetpipe.documents import Record
from unetpipe.evaluation.summary import bootstrap_interval, patients_of, pool
from unetpipe.metrics.scores import HIGHER_IS_BETTER, ClassScore
from unetpipe.metrics.signed_rank import rank_side, signed_rank_p

SIGNIFICANCE = 0.05
_LISTED = 5


class CaseDifference(Record):
    """One metric of one case by both models, and model minus baseline."""

    case: str
    baseline: float
    model: float
    difference: float


class Difference(Record):
    """One metric of one class, compared.

    Attributes:
        name: Name of the class.
        metric: Name of the metric; of volume errors, absolute values are compared.
        n: Number of patients where both models have a value.
        mean: Mean difference.
        low, high: 95 % bootstrap interval of the mean difference.
        side: Where the signed ranks lie, from -1 to 1: above 0 where positive differences outweigh negative ones.
        p: P-value of Wilcoxon's signed-rank test; NaN without a patient.
        p_corrected: p-value after Holm's correction.
        better: The better model, if the corrected test decides, and mean and ranks point the same way.
        most: Cases that differ most in favour of either model, the largest difference first.
    """

    name: str
    metric: str
    n: int
    mean: float
    low: float
    high: float
    side: float
    p: float
    p_corrected: float
    better: Literal["model", "baseline", "undecided"]
    most: tuple[CaseDifference, ...]


class Comparison(Record):
    """One model against the baseline in every class and metric."""

    baseline: str
    model: str
    differences: tuple[Difference, ...]


def compare(
    scores: Mapping[str, Sequence[ClassScore]],
    names: Mapping[int, str],
    patients: Mapping[str, str],
    seed: int,
    higher_is_better: Mapping[str, bool] = HIGHER_IS_BETTER,
) -> list[Comparison]:
    """Compare every model with the first one.

    Args:
        scores: Scores of every class of every case, by model; the first model is the baseline.
        names: Name of each class by label value.
        patients: Patient by case id; a case that is not in it is a patient of its own.
        seed: Seed of the bootstrap.
        higher_is_better: Whether a higher value of a metric is better.
    """
    baseline, *others = scores
    metrics = _measured(scores)
    tables = {model: _by_class(items) for model, items in scores.items()}
    found: dict[str, list[Difference]] = {}
    for other in others:
        classes = [
            _differences(metrics, name, tables[baseline].get(value, {}), tables[other].get(value, {}), patients, seed)
            for value, name in names.items()
        ]
        found[other] = [one[number] for number in range(len(metrics)) for one in classes]
    for metric, higher in higher_is_better.items():
        family = [item for items in found.values() for item in items if item.metric == metric]
        corrected = iter(holm([item.p for item in family]))
        for items in found.values():
            items[:] = [_decided(item, next(corrected), higher) if item.metric == metric else item for item in items]
    return [Comparison(baseline=baseline, model=other, differences=tuple(items)) for other, items in found.items()]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's method; a NaN stays NaN and does not count as a test."""
    tested = sorted((p, position) for position, p in enumerate(p_values) if not np.isnan(p))
    corrected, highest = [nan] * len(p_values), 0.0
    for rank, (p, position) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        corrected[position] = highest
    return corrected


def _measured(scores: Mapping[str, Sequence[ClassScore]]) -> list[str]:
    """Names of the metrics of scores; all scores have the same ones."""
    return list(next(iter(scores.values()))[0].metrics())


def _by_class(scores: Sequence[ClassScore]) -> dict[int, dict[str, Mapping[str, float]]]:
    """Metrics of each case, by label value."""
    table: dict[int, dict[str, Mapping[str, float]]] = {}
    for score in scores:
        table.setdefault(score.value, {})[score.case] = score.metrics()
    return table


def _differences(
    metrics: Sequence[str],
    name: str,
    baseline: Mapping[str, Mapping[str, float]],
    model: Mapping[str, Mapping[str, float]],
    patients: Mapping[str, str],
    seed: int,
) -> list[Difference]:
    """One class, compared by every metric in the cases that both models have; patients are drawn once for all."""
    cases = [case for case in baseline if case in model]
    rows = [[[one[case].get(metric, nan) for metric in metrics] for one in (baseline, model)] for case in cases]
    values = np.array(rows, dtype=np.float64).reshape(-1, 2, len(metrics))
    sized = [number for number, metric in enumerate(metrics) if metric.startswith("volume_error")]
    values[:, :, sized] = np.abs(values[:, :, sized])
    apart = values[:, 1] - values[:, 0]
    pooled = pool(apart, patients_of(cases, patients))
    low, high = bootstrap_interval(pooled, seed)
    sizes = np.where(np.isfinite(values), np.abs(values), 0.0).max((0, 1), initial=0.0)
    sizes[sizes == 0] = 1.0  # what counts as a tie must not depend on the unit: a cell has 1e-10 ml
    scaled = [column[np.isfinite(column)] for column in (pooled / sizes).T]
    return [
        Difference(
            name=name,
            metric=metric,
            n=int(np.isfinite(pooled[:, number]).sum()),
            mean=_mean(pooled[:, number]),
            low=float(low[number]),
            high=float(high[number]),
            side=rank_side(scaled[number]),
            p=signed_rank_p(scaled[number]),
            p_corrected=nan,
            better="undecided",
            most=tuple(_most(cases, values[:, :, number])),
        )
        for number, metric in enumerate(metrics)
    ]


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else nan


def _most(cases: Sequence[str], values: NDArray[np.float64]) -> Iterator[CaseDifference]:
    """Cases that differ most, of values (cases, 2) by baseline and model."""
    apart = values[:, 1] - values[:, 0]
    for row in sorted(np.flatnonzero(np.isfinite(apart)).tolist(), key=lambda row: -abs(apart[row]))[:_LISTED]:
        if apart[row]:
            before, after = map(float, values[row])
            yield CaseDifference(case=cases[row], baseline=before, model=after, difference=float(apart[row]))


def _decided(item: Difference, p_corrected: float, higher_is_better: bool) -> Difference:
    better: Literal["model", "baseline", "undecided"] = "undecided"
    if p_corrected < SIGNIFICANCE and item.mean * item.side > 0:  # a few large losses may outweigh many small gains
        better = "model" if (item.mean > 0) == higher_is_better else "baseline"
    return item.model_copy(update={"p_corrected": p_corrected, "better": better})
