"""From scores of cases to a summary of each class: mean, spread, confidence interval, and how many cases failed.

Where patients have several scans, a patient's scores are averaged first, so that no patient counts twice. Values that
are not defined (NaN, see `metrics.scores`) take no part in a summary, which says how many patients it is made of.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import nan

import numpy as np
from numpy.typing import NDArray

from unetpipe.documents import Record
from unetpipe.metrics.scores import ClassScore

RESAMPLES = 2000
_CHUNK_DRAWS = 1 << 22
_MOST_KEPT = 10_000
"""Rows whose draws are kept: 40 MB."""


class MetricSummary(Record):
    """One metric of one class over all patients; NaN where no patient has a value.

    Attributes:
        n: Number of patients with a value.
        mean, median, q1, q3: Mean, median and quartiles of their values.
        std: Standard deviation with n - 1.
        low, high: 95 % percentile bootstrap interval of the mean, by resampling patients; NaN below 2 values.
    """

    n: int = 0
    mean: float = nan
    median: float = nan
    std: float = nan
    q1: float = nan
    q3: float = nan
    low: float = nan
    high: float = nan


class ClassSummary(Record):
    """One class over all cases.

    Attributes:
        name: Name of the class.
        value: Value of the class in label files.
        cases: Number of evaluated cases, the same for every class.
        present: Number of cases whose reference holds the class.
        missed: Number of these whose prediction does not hold it, or that have no prediction.
        false_positives: Number of cases whose prediction holds the class and whose reference does not.
        true_negatives: Number of cases where neither holds it.
        patients: Number of patients that the summaries pool; equals `cases` where patients are not known.
        figures: Summary of each metric, by its name.
    """

    name: str
    value: int
    cases: int
    present: int
    missed: int
    false_positives: int
    true_negatives: int
    patients: int
    figures: dict[str, MetricSummary]


def summarise(
    scores: Sequence[ClassScore], names: Mapping[int, str], patients: Mapping[str, str], seed: int
) -> list[ClassSummary]:
    """Summarise every class over all cases.

    Args:
        scores: Scores of every class of every case.
        names: Name of each class by label value, in the order of the result.
        patients: Patient by case id; a case that is not in it is a patient of its own.
        seed: Seed of the bootstrap.
    """
    of_class = by_value(scores)
    return [_summarise_class(name, value, of_class[value], patients, seed) for value, name in names.items()]


def by_value(scores: Iterable[ClassScore]) -> Mapping[int, list[ClassScore]]:
    """Scores of each class by its label value; none of a class that has none."""
    found: defaultdict[int, list[ClassScore]] = defaultdict(list)
    for score in scores:
        found[score.value].append(score)
    return found


def patients_of(cases: Iterable[str], patients: Mapping[str, str]) -> list[str]:
    """The patient of each case; a case that names none is a patient of its own."""
    return [patients.get(case, f"case {case}") for case in cases]


def _summarise_class(
    name: str, value: int, scores: Sequence[ClassScore], patients: Mapping[str, str], seed: int
) -> ClassSummary:
    metrics = [score.metrics() for score in scores]
    keys = list(metrics[0]) if metrics else []
    table = np.array([[row[key] for key in keys] for row in metrics]).reshape(len(scores), len(keys))
    pooled = pool(table, patients_of([score.case for score in scores], patients))
    low, high = bootstrap_interval(pooled, seed)
    return ClassSummary(
        name=name,
        value=value,
        cases=len(scores),
        present=sum(score.overlap.reference > 0 for score in scores),
        missed=sum(score.overlap.reference > 0 and score.overlap.prediction == 0 for score in scores),
        false_positives=sum(score.outcome == "false_positive" for score in scores),
        true_negatives=sum(score.outcome == "true_negative" for score in scores),
        patients=len(pooled),
        figures={
            key: _figure(pooled[:, column], float(low[column]), float(high[column])) for column, key in enumerate(keys)
        },
    )


def pool(table: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """Average the rows of each group, leaving out NaN.

    Args:
        table: Values, shape (rows, columns).
        groups: Group of each row.

    Returns:
        Shape (groups, columns), groups in order of first appearance; NaN where a group has no value.
    """
    first = {group: position for position, group in enumerate(dict.fromkeys(groups))}
    rows = np.array([first[group] for group in groups], np.intp)
    valid = np.isfinite(table)
    total, count = np.zeros((len(first), table.shape[1])), np.zeros((len(first), table.shape[1]))
    np.add.at(total, rows, np.where(valid, table, 0.0))
    np.add.at(count, rows, valid)
    return np.divide(total, count, out=np.full_like(total, nan), where=count > 0)


def bootstrap_interval(table: NDArray[np.float64], seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval of each column's mean by resampling rows, leaving out NaN.

    Args:
        table: Values, shape (rows, columns).
        seed: The same seed and table give the same interval.

    Returns:
        2.5th and 97.5th percentile of `RESAMPLES` means, each of shape (columns,); NaN for columns of fewer than two
        values.
    """
    columns = table.shape[1]
    enough = np.isfinite(table).sum(0) > 1
    low, high = np.full(columns, nan), np.full(columns, nan)
    if enough.any():
        low[enough], high[enough] = np.nanpercentile(bootstrap_means(table[:, enough], seed), (2.5, 97.5), axis=0)
    return low, high


def bootstrap_means(table: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means of each column over resampled rows, leaving out NaN; the same rows for all columns.

    Args:
        table: Values, shape (rows, columns).
        seed: The same seed and number of rows give the same draws.

    Returns:
        Shape (`RESAMPLES`, columns); NaN where no row with a value was drawn.
    """
    rows = len(table)
    valid = np.isfinite(table)
    values, present = np.where(valid, table, 0.0), valid.astype(float)
    means = []
    for some in _draws(rows, seed):
        drawn = some.astype(float)
        count = drawn @ present
        means.append(np.divide(drawn @ values, count, out=np.full_like(count, nan), where=count > 0))
    return np.concatenate(means)


def _draws(rows: int, seed: int) -> Iterable[NDArray[np.uint16 | np.int64]]:
    """How often each row is drawn in each resample, in parts that fit in memory as floats."""
    return _known_draws(rows, seed) if rows <= _MOST_KEPT else _drawn(rows, seed)


@lru_cache(maxsize=2)
def _known_draws(rows: int, seed: int) -> tuple[NDArray[np.uint16], ...]:
    """The draws for all classes and models, which take longer than the means."""
    return tuple(part.astype(np.uint16) for part in _drawn(rows, seed))


def _drawn(rows: int, seed: int) -> Iterator[NDArray[np.int64]]:
    random, step = np.random.default_rng(seed), max(1, _CHUNK_DRAWS // rows)
    for start in range(0, RESAMPLES, step):
        yield random.multinomial(rows, np.full(rows, 1 / rows), size=min(step, RESAMPLES - start))


def _figure(values: NDArray[np.float64], low: float, high: float) -> MetricSummary:
    values = values[np.isfinite(values)]
    if not values.size:
        return MetricSummary()
    q1, median, q3 = (float(q) for q in np.percentile(values, (25, 50, 75)))
    return MetricSummary(
        n=values.size,
        mean=float(values.mean()),
        median=median,
        std=float(values.std(ddof=1)) if values.size > 1 else nan,
        q1=q1,
        q3=q3,
        low=low,
        high=high,
    )
