"""Whether a model is as good for one group of patients as for another, such as by scanner or by sex.

The gap of a metric is the largest mean of a group minus the smallest. Its p-value is that of a permutation test: how
often a gap of at least this size appears when the patients' values are dealt out to groups of the same sizes at random.
It is corrected by Holm over the classes and columns of one metric.

Source:
    Good 2005, Permutation, Parametric and Bootstrap Tests of Hypotheses, ch. 3; Phipson & Smyth 2010, Stat. Appl.
    Genet. Mol. Biol. 9:39 (the p-value of a random permutation test is never 0).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import inf, isnan, nan

import numpy as np
from numpy.typing import NDArray

from unetpipe.documents import Record
from unetpipe.evaluation.comparison import SIGNIFICANCE, holm
from unetpipe.evaluation.summary import ClassSummary, by_value, patients_of, pool, summarise
from unetpipe.metrics.scores import ClassScore

PERMUTATIONS = 9999
_CHUNK = 500
_CELLS = 1 << 24


class Group(Record):
    """The figures of one group.

    Attributes:
        name: Value of the column.
        classes: Summary of each class over the cases of the group.
    """

    name: str
    classes: tuple[ClassSummary, ...]


class Gap(Record):
    """The gap between the groups in one metric of one class.

    Attributes:
        name: Name of the class.
        metric: Name of the metric.
        highest, lowest: Groups with the largest and the smallest mean.
        gap: Difference of these means; NaN where fewer than two groups have a value.
        p: P-value of the permutation test; NaN where there is no gap to test.
        p_corrected: p-value after Holm's correction.
        beyond_chance: Whether the corrected p-value is below 0.05.
    """

    name: str
    metric: str
    highest: str
    lowest: str
    gap: float
    p: float
    p_corrected: float
    beyond_chance: bool


class Subgroups(Record):
    """One model by the values of one column.

    Attributes:
        model: Name of the model.
        column: Name of the column.
        not_given: Number of cases for which the column has no value, which are in no group.
        groups: Figures of each group.
        gaps: The gap of every metric of every class.
    """

    model: str
    column: str
    not_given: int
    groups: tuple[Group, ...]
    gaps: tuple[Gap, ...]

    def gap_of(self, name: str, metric: str) -> Gap:
        """The gap of one metric of one class."""
        return next(gap for gap in self.gaps if (gap.name, gap.metric) == (name, metric))


def compare_subgroups(
    scores: Mapping[str, Sequence[ClassScore]],
    names: Mapping[int, str],
    patients: Mapping[str, str],
    columns: Mapping[str, Mapping[str, str]],
    seed: int,
) -> list[Subgroups]:
    """Summarise every model in each group, and test the gaps between groups.

    Args:
        scores: Scores of every class of every case, by model.
        names: Name of each class by label value.
        patients: Patient by case id; a case that is not in it is a patient of its own.
        columns: By column, the value of each case that has one.
        seed: Seed of the bootstrap and of the permutations.
    """
    found = [
        _by_column(model, column, values, items, names, patients, seed)
        for model, items in scores.items()
        for column, values in columns.items()
    ]
    return _corrected(found)


def _by_column(
    model: str,
    column: str,
    values: Mapping[str, str],
    scores: Sequence[ClassScore],
    names: Mapping[int, str],
    patients: Mapping[str, str],
    seed: int,
) -> Subgroups:
    cases = dict.fromkeys(score.case for score in scores)
    groups = sorted({values[case] for case in cases if case in values}, key=_number_then_text)
    members = {group: [score for score in scores if values.get(score.case) == group] for group in groups}
    of_class = by_value(scores)
    return Subgroups(
        model=model,
        column=column,
        not_given=sum(case not in values for case in cases),
        groups=tuple(
            Group(name=group, classes=tuple(summarise(own, names, patients, seed))) for group, own in members.items()
        ),
        gaps=tuple(
            gap for value, name in names.items() for gap in _gaps(name, of_class[value], values, groups, patients, seed)
        ),
    )


def _number_then_text(value: str) -> tuple[float, str]:
    """Order numbers by their size, before what is none."""
    try:
        number = float(value)
    except ValueError:
        number = nan
    return (inf if isnan(number) else number), value


def _gaps(
    name: str,
    scores: Sequence[ClassScore],
    values: Mapping[str, str],
    groups: Sequence[str],
    patients: Mapping[str, str],
    seed: int,
) -> list[Gap]:
    """The gap of every metric of one class."""
    known = [score for score in scores if score.case in values]
    metrics = list(scores[0].metrics())
    table = np.array([list(score.metrics().values()) for score in known]).reshape(len(known), len(metrics))
    cases = [score.case for score in known]
    owners = list(zip((values[case] for case in cases), patients_of(cases, patients), strict=True))
    keys = [f"{group}\0{patient}" for group, patient in owners]  # a patient who is in two groups counts in both
    pooled = pool(table, keys)
    of_row = {key: groups.index(group) for key, (group, _) in zip(keys, owners, strict=True)}
    place = np.array([of_row[key] for key in dict.fromkeys(keys)], np.intp)
    means = _means(pooled, place[None], len(groups))[0]
    p_values = _permutation_p(pooled, place, len(groups), seed)
    gaps = []
    for column, metric in enumerate(metrics):
        own = means[:, column]
        comparable = int(np.isfinite(own).sum()) > 1
        high, low = (int(np.nanargmax(own)), int(np.nanargmin(own))) if comparable else (0, 0)
        gaps.append(
            Gap(
                name=name,
                metric=metric,
                highest=groups[high] if comparable else "",
                lowest=groups[low] if comparable else "",
                gap=float(own[high] - own[low]) if comparable else nan,
                p=float(p_values[column]) if comparable else nan,
                p_corrected=nan,
                beyond_chance=False,
            )
        )
    return gaps


def _permutation_p(table: NDArray[np.float64], place: NDArray[np.intp], groups: int, seed: int) -> NDArray[np.float64]:
    """Share of random deals, the observed one included, whose gap is at least the observed one, per column.

    Only patients who have a value are dealt, so that every deal has as many of them in each group as there are.

    Args:
        table: Values, shape (patients, metrics), NaN where not defined.
        place: Group of each patient.
        groups: Number of groups.
        seed: Seed of the deals.
    """
    patterns, pattern = np.unique(np.isfinite(table), axis=1, return_inverse=True)
    p_values = np.ones(table.shape[1])
    for number, known in enumerate(patterns.T):
        columns = np.flatnonzero(pattern.reshape(-1) == number)  # that are defined in the same patients
        if known.any():
            p_values[columns] = _p_of_known(table[np.ix_(known, columns)], place[known], groups, seed)
    return p_values


def _p_of_known(table: NDArray[np.float64], place: NDArray[np.intp], groups: int, seed: int) -> NDArray[np.float64]:
    observed = _spread(_means(table, place[None], groups))[0]
    random = np.random.default_rng(seed)
    slack = 1e-12 * np.abs(table).max(0, initial=0.0)  # in whatever unit
    reached = np.ones(table.shape[1])
    step = max(1, min(_CHUNK, _CELLS // (groups * len(place))))
    for start in range(0, PERMUTATIONS, step):
        deals = np.tile(place, (min(step, PERMUTATIONS - start), 1))
        dealt = _spread(_means(table, random.permuted(deals, axis=1), groups))
        reached += (dealt >= observed - slack).sum(0)
    return reached / (PERMUTATIONS + 1)


def _means(table: NDArray[np.float64], place: NDArray[np.intp], groups: int) -> NDArray[np.float64]:
    """Mean of each group for several deals, shape (deals, groups, metrics); NaN where a group has no value."""
    valid = np.isfinite(table)
    member = (place[:, None, :] == np.arange(groups)[:, None]).astype(float)
    total, count = member @ np.where(valid, table, 0.0), member @ valid
    means: NDArray[np.float64] = np.divide(total, count, out=np.full_like(total, nan), where=count > 0)
    return means


def _spread(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest minus smallest mean of the groups that have one, shape (deals, metrics)."""
    known = np.isfinite(means)
    highest = np.where(known, means, -np.inf).max(1)
    lowest = np.where(known, means, np.inf).min(1)
    spread: NDArray[np.float64] = np.where(known.sum(1) > 1, highest - lowest, 0.0)
    return spread


def _corrected(found: Sequence[Subgroups]) -> list[Subgroups]:
    """Correct the p-values of each model and metric over its classes and columns."""
    families: dict[tuple[str, str], list[Gap]] = defaultdict(list)
    for one in found:
        for gap in one.gaps:
            families[one.model, gap.metric].append(gap)
    decided = {key: map(_decided, gaps, holm([gap.p for gap in gaps])) for key, gaps in families.items()}
    return [
        one.model_copy(update={"gaps": tuple(next(decided[one.model, gap.metric]) for gap in one.gaps)})
        for one in found
    ]


def _decided(gap: Gap, p_corrected: float) -> Gap:
    return gap.model_copy(update={"p_corrected": p_corrected, "beyond_chance": p_corrected < SIGNIFICANCE})
