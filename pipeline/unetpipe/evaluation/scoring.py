"""From files to scores: every case of every model, in threads; faults of all cases are reported together."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.dataset.label_scheme import Region
from unetpipe.errors import ComponentError, DatasetError, Fault, GeometryError, ImageFileError, UnetpipeError, listed
from unetpipe.evaluation.inputs import Inputs, Model
from unetpipe.evaluation.label_hints import CaseValues, find_met, label_hints
from unetpipe.evaluation.labels import (
    NO_LENGTHS,
    can_be_resampled,
    frames_of_reference_differ,
    read_prediction,
    read_reference,
    reference_grid,
    values_in,
)
from unetpipe.evaluation.named_metrics import NamedMetric
from unetpipe.evaluation.orientation_hint import Turned, find_turn, orientation_hint
from unetpipe.imaging.alignment import describe_difference, same_voxels
from unetpipe.imaging.files import is_dicom_source, read_grid
from unetpipe.imaging.geometry import Grid
from unetpipe.metrics.scores import ClassScore, absent_score, score_case
from unetpipe.progress import Progress

Scores = dict[str, list[ClassScore]]
"""Scores of every class of every case, by model."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The result of comparing all files.

    Attributes:
        classes: Name of each class by label value.
        scores: Scores of every class of every case, by model; cases in the order of the references.
        hints: Sentences about label values, orientations and frames of reference that suggest a mistake in the files.
    """

    classes: dict[int, str]
    scores: Scores
    hints: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _CaseResult:
    """One case: scores and the way to turn each prediction by model, values, diagonal, and whether frames differ."""

    scores: Scores
    turns: dict[str, Turned | None]
    values: CaseValues
    extent_mm: float
    frames_differ: bool


def check_grids(inputs: Inputs, workers: int) -> None:
    """Compare every prediction's header with its reference's, before anything is measured.

    Raises:
        DatasetError: If any lies on another grid or cannot be read.
    """

    def check(case: str, model: Model) -> Fault | None:
        try:
            with _naming("the reference"):
                expected = reference_grid(case, inputs)
            with _naming(f"the prediction of {model.name}"):
                if is_dicom_source(model.files[case]):  # is drawn on the reference's grid, or refused
                    return None
                _, found = read_grid(model.files[case])
        except (ImageFileError, GeometryError) as error:
            return Fault(case=case, kind="unreadable", message=str(error))
        if same_voxels(expected, found):
            return None
        return Fault(case=case, kind="grid_mismatch", message=_mismatch(model.name, expected, found))

    pairs = [(case, model) for case in inputs.references for model in inputs.models if case in model.files]
    with ThreadPoolExecutor(workers) as pool:
        faults = [fault for fault in pool.map(lambda pair: check(*pair), pairs) if fault]
    if faults:
        raise DatasetError(faults)


def score_all(
    inputs: Inputs, config: EvaluateConfig, metrics: Sequence[NamedMetric], workers: int, progress: Progress
) -> Scored:
    """Score every case of every model. Every class has a score in every case, also where it does not occur.

    Args:
        inputs: Files to read.
        config: Tolerances, and whether lesions are counted.
        metrics: Metrics that a person named, measured beside the package's own.
        workers: Threads over cases, or over classes where there are fewer cases than threads.
        progress: Advanced once per case.

    Raises:
        DatasetError: If files cannot be read or are no labels, or there is no label at all.
        UnetpipeError: If a tolerance is given for a class that there is not.
        ComponentError: If a metric that a person named fails.
    """
    threads = max(1, workers // len(inputs.references))

    def score(case: str) -> _CaseResult | Fault:
        try:
            return _score_case(case, inputs, config, metrics, threads)
        except (ImageFileError, GeometryError) as error:
            return Fault(case=case, kind="unreadable", message=str(error))

    results: dict[str, _CaseResult] = {}
    faults = []
    with progress.task("Evaluate", len(inputs.references)) as advance, ThreadPoolExecutor(workers) as pool:
        for case, result in zip(inputs.references, pool.map(score, inputs.references), strict=True):
            if isinstance(result, Fault):
                faults.append(result)
            else:
                results[case] = result
            advance(note=case)
    if faults:
        raise DatasetError(faults)
    names = _classes(inputs, results.values(), config)
    scores = {
        model.name: [
            score
            for case, result in results.items()
            for score in _complete(case, result.scores[model.name], model, names, config, metrics)
        ]
        for model in inputs.models
    }
    turned = (
        orientation_hint(model.name, [result.turns[model.name] for result in results.values()])
        for model in inputs.models
    )
    wide = _tolerance_hints([result.extent_mm for result in results.values()], names, config)
    frames = _frame_hints([result.frames_differ for result in results.values()])
    values = label_hints([result.values for result in results.values()], inputs)
    hints = (*values, *filter(None, turned), *wide, *frames)
    return Scored(classes=names, scores=scores, hints=hints)


def _score_case(
    case: str, inputs: Inputs, config: EvaluateConfig, metrics: Sequence[NamedMetric], threads: int
) -> _CaseResult:
    with _naming("the reference"):
        read = read_reference(case, inputs)
    reference, grid, frames = read.array[0], read.grid, [read.frames_of_reference]
    counted = None if inputs.ignore_value is None else reference != inputs.ignore_value
    if counted is not None:
        reference = reference * counted
    in_reference, predicted = values_in(reference), {}
    turns: dict[str, Turned | None] = {}
    met: dict[str, dict[int, int]] = {}
    scores = {}
    for model in inputs.models:
        prediction, turns[model.name] = None, None
        if case in model.files:
            with _naming(f"the prediction of {model.name}"):
                read = read_prediction(model.files[case], grid, inputs)
            prediction = read.array[0]
            frames.append(read.frames_of_reference)
            prediction = prediction if counted is None else prediction * counted
            predicted[model.name] = values_in(prediction)
            turns[model.name] = find_turn(reference, prediction)
            if turns[model.name] is None:
                met[model.name] = find_met(reference, prediction)
        values = sorted(inputs.classes or in_reference | predicted.get(model.name, set()))
        tolerances = {value: _tolerance_mm(value, inputs.classes.get(value, str(value)), config) for value in values}
        pairs = [(reference, prediction, tolerances)]
        if inputs.regions:  # they may overlap: one after the other, each by the value that is written for it
            pairs = [
                (_region(reference, one), _region(prediction, one), {one.written: tolerances[one.written]})
                for one in sorted(inputs.regions, key=lambda one: one.written)
            ]
        scores[model.name] = [
            _with_named(score, metrics, ours, theirs, grid)
            for ours, theirs, wanted in pairs
            for score in score_case(case, ours, theirs, grid, wanted, lesions=config.lesions, workers=threads)
        ]
    values_found = CaseValues(reference=in_reference, predictions=predicted, met=met)
    extent_mm = math.hypot(*(n * size for n, size in zip(grid.shape, grid.spacing_mm, strict=True)))
    return _CaseResult(
        scores=scores,
        turns=turns,
        values=values_found,
        extent_mm=extent_mm,
        frames_differ=frames_of_reference_differ(case, frames, inputs),
    )


def _frame_hints(differing: Sequence[bool]) -> list[str]:
    """A sentence where files of a case, which may lie on equal grids, are of different frames of reference."""
    if not any(differing):
        return []
    return [
        f"reference, prediction and scan have different frames of reference in {sum(differing)} of {len(differing)} "
        "cases: make sure that they are of one examination"
    ]


def _tolerance_hints(extents_mm: Sequence[float], classes: Mapping[int, str], config: EvaluateConfig) -> list[str]:
    """Tolerances of NSD within which everything lies, as 1 mm is in a microscope's image, and their classes."""
    named: dict[float, list[str]] = {}
    for value, name in classes.items():
        named.setdefault(_tolerance_mm(value, name, config), []).append(name)
    hints = []
    for tolerance_mm, names in named.items():
        if wide := sum(extent_mm <= tolerance_mm for extent_mm in extents_mm):
            hints.append(
                f"the tolerance of NSD of {listed(names)} ({tolerance_mm:g} mm) is as long as the image in {wide} of "
                f"{len(extents_mm)} cases: NSD is 1 there wherever both files hold the class; --tolerance-mm and "
                "--tolerances-mm set it"
            )
    return hints


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Say which file of a case an error is about: the two usually have the same name."""
    try:
        yield
    except (ImageFileError, GeometryError) as error:
        raise type(error)(f"{what}, {error}") from error


def _with_named(
    score: ClassScore,
    metrics: Sequence[NamedMetric],
    reference: NDArray[np.integer],
    prediction: NDArray[np.integer] | None,
    grid: Grid,
) -> ClassScore:
    """A class's score with the metrics that a person named; without a prediction they compare with an empty mask."""
    if not metrics:
        return score
    ours = reference == score.value
    theirs = np.zeros_like(ours) if prediction is None else prediction == score.value
    for mask in (ours, theirs):
        mask.flags.writeable = False
    try:
        return replace(score, named={one.name: one.measure(ours, theirs, grid.spacing_mm) for one in metrics})
    except ComponentError as error:
        raise ComponentError(f"{score.case}: {error}") from error


def _region(labels: NDArray[np.integer] | None, region: Region) -> Any:
    """Labels with one value where any of the region's is, and 0 elsewhere."""
    return None if labels is None else np.isin(labels, region.values).astype(np.int32) * region.written


def _classes(inputs: Inputs, results: Iterable[_CaseResult], config: EvaluateConfig) -> dict[int, str]:
    """Classes named by the inputs, or every label value that occurs anywhere."""
    found = {score.value for result in results for scores in result.scores.values() for score in scores}
    names = dict(inputs.classes) or {value: str(value) for value in sorted(found)}
    if not names:
        raise DatasetError.of("no_classes", "no file holds any label but 0")
    require_classes(config.tolerances_mm, names)
    return names


def require_classes(named: Iterable[str], classes: Mapping[int, str]) -> None:
    """See that tolerances are given for classes, by name or value.

    Raises:
        UnetpipeError: If one is for no class.
    """
    if unknown := set(named) - set(classes.values()) - set(map(str, classes)):
        known = ", ".join(classes.values())
        raise UnetpipeError(f"--tolerances-mm names {', '.join(sorted(unknown))}; the classes are {known}")


def _complete(
    case: str,
    scores: list[ClassScore],
    model: Model,
    names: Mapping[int, str],
    config: EvaluateConfig,
    metrics: Sequence[NamedMetric],
) -> list[ClassScore]:
    """Scores of one case in the order of `names`; a class that neither file holds gets the score of two empty masks."""
    scored = {score.value: score for score in scores}
    predicted = case in model.files

    def absent(value: int, name: str) -> ClassScore:
        tolerance_mm = _tolerance_mm(value, name, config)
        score = absent_score(case, value, tolerance_mm, predicted=predicted, lesions=config.lesions)
        return replace(score, named={metric.name: nan for metric in metrics})

    return [scored.get(value) or absent(value, name) for value, name in names.items()]


def _tolerance_mm(value: int, name: str, config: EvaluateConfig) -> float:
    given = config.tolerances_mm
    return given.get(name, given.get(str(value), config.tolerance_mm))


def _mismatch(model: str, expected: Grid, found: Grid) -> str:
    mended = "--resample takes it onto its reference's grid by nearest voxel"
    advice = mended if can_be_resampled(expected, found) else NO_LENGTHS
    return f"the prediction of {model} has {describe_difference(expected, found)}; {advice}"
