"""Predictions against references: scores per case, figures per class, a comparison of models, a report."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetpipe.config import Config, EvaluateConfig
from unetpipe.errors import DatasetError, Fault, GeometryError, ImageFileError, UnetpipeError
from unetpipe.imaging.files import read_grid
from unetpipe.imaging.geometry import Grid
from unetpipe.metrics.evaluation import Evaluation, ModelEvaluation, table_of
from unetpipe.metrics.gate import gate_failures
from unetpipe.metrics.inputs import Inputs, Model, gather_inputs
from unetpipe.metrics.labels import SAME_GRID_MM, onto_grid, read_labels, values_in
from unetpipe.metrics.scores import ClassScore, absent_score, score_case
from unetpipe.metrics.summary import summarise
from unetpipe.progress import Progress, SilentProgress
from unetpipe.report.tables import write_metrics, write_summary


class EvaluateResult(Config):
    """What `evaluate` found and wrote.

    Attributes:
        passed: No prediction is missing and every bound of `fail_under` holds.
        reasons: Why not.
        missing: Cases without a prediction, by model; each counts as a failure.
        extra: Predictions without a reference, by model; not evaluated.
        table: For a terminal: a header and one row per model and class.
        evaluation: All figures, as in summary.json.
        metrics_csv, summary_json: Files written.
    """

    passed: bool
    reasons: tuple[str, ...]
    missing: dict[str, tuple[str, ...]]
    extra: dict[str, tuple[str, ...]]
    table: tuple[tuple[str, ...], ...]
    evaluation: Evaluation
    metrics_csv: Path
    summary_json: Path


def evaluate(
    config: EvaluateConfig,
    progress: Progress = SilentProgress(),  # noqa: B008 - it has no state
) -> EvaluateResult:
    """Measure predictions against references and write metrics.csv and summary.json.

    Raises:
        DatasetError: If files are missing, unreadable, not labels, or on another grid; lists every such case.
        UnetpipeError: If a tolerance or bound names something that is not there.
    """
    inputs = gather_inputs(config)
    workers = config.workers or len(os.sched_getaffinity(0))
    for model in inputs.models:
        for case in model.extra:
            progress.say(f"{case}: predicted by {model.name}, but there is no reference; left out")
        for case in model.missing:
            progress.say(f"{case}: no prediction by {model.name}; counts as a failure")
    if not config.resample:
        _check_grids(inputs, workers)
    classes, scores = _score_all(inputs, config, workers, progress)
    evaluation = Evaluation(
        dataset=inputs.dataset,
        cases=len(inputs.references),
        seed=config.seed,
        models=tuple(
            ModelEvaluation(
                name=model.name,
                missing=model.missing,
                extra=model.extra,
                classes=tuple(summarise(scores[model.name], classes, inputs.patients, config.seed)),
            )
            for model in inputs.models
        ),
    )
    write_metrics(config.out / "metrics.csv", scores, classes)
    write_summary(config.out / "summary.json", evaluation)
    reasons = _reasons(evaluation, config.fail_under)
    return EvaluateResult(
        passed=not reasons,
        reasons=tuple(reasons),
        missing={model.name: model.missing for model in inputs.models if model.missing},
        extra={model.name: model.extra for model in inputs.models if model.extra},
        table=table_of(evaluation),
        evaluation=evaluation,
        metrics_csv=config.out / "metrics.csv",
        summary_json=config.out / "summary.json",
    )


def _check_grids(inputs: Inputs, workers: int) -> None:
    """Compare every prediction's header with its reference's before anything is measured."""

    def check(case: str, reference: Path, model: Model) -> Fault | None:
        try:
            (_, expected), (_, found) = read_grid(reference), read_grid(model.files[case])
        except (ImageFileError, GeometryError) as error:
            return Fault(case=case, kind="unreadable", message=str(error))
        if expected.difference_mm(found) <= SAME_GRID_MM:
            return None
        return Fault(case=case, kind="grid_mismatch", message=_mismatch(model.name, expected, found))

    pairs = [
        (case, reference, model)
        for case, reference in inputs.references.items()
        for model in inputs.models
        if case in model.files
    ]
    with ThreadPoolExecutor(workers) as pool:
        faults = [fault for fault in pool.map(lambda pair: check(*pair), pairs) if fault]
    if faults:
        raise DatasetError(faults)


def _mismatch(model: str, expected: Grid, found: Grid) -> str:
    if expected.shape != found.shape:
        return f"prediction of {model} has shape {found.shape}, its reference {expected.shape}; resampling is off"
    apart = expected.difference_mm(found)
    return f"prediction of {model} lies up to {apart:.3g} mm from its reference; resampling is off"


def _score_all(
    inputs: Inputs, config: EvaluateConfig, workers: int, progress: Progress
) -> tuple[Mapping[int, str], Mapping[str, list[ClassScore]]]:
    """Score every case of every model; every class has a score in every case, also where it does not occur.

    Returns:
        Names by label value, and scores by model, cases in the order of the references.
    """
    threads = max(1, workers // len(inputs.references))

    def score(case: str) -> dict[str, list[ClassScore]] | Fault:
        try:
            return _score_case(case, inputs, config, threads)
        except (ImageFileError, GeometryError) as error:
            return Fault(case=case, kind="unreadable", message=str(error))

    results: dict[str, dict[str, list[ClassScore]]] = {}
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
    found = {item.value for models in results.values() for scores in models.values() for item in scores}
    names = dict(inputs.classes) or {value: str(value) for value in sorted(found)}
    if not names:
        raise DatasetError([Fault(case="dataset", kind="no_classes", message="no file holds any label but 0")])
    unknown = set(config.tolerances_mm) - set(names.values()) - set(map(str, names))
    if unknown:
        known = ", ".join(names.values())
        raise UnetpipeError(f"tolerances_mm names {', '.join(sorted(unknown))}; the classes are {known}")
    complete: dict[str, list[ClassScore]] = {}
    for model in inputs.models:
        complete[model.name] = []
        for case in inputs.references:
            scored = {item.value: item for item in results[case][model.name]}
            complete[model.name] += [
                scored.get(value)
                or absent_score(case, value, _tolerance_mm(value, name, config), predicted=case in model.files)
                for value, name in names.items()
            ]
    return names, complete


def _score_case(case: str, inputs: Inputs, config: EvaluateConfig, threads: int) -> dict[str, list[ClassScore]]:
    reference, grid = read_labels(inputs.references[case])
    counted = None if inputs.ignore_value is None else reference != inputs.ignore_value
    if counted is not None:
        reference = reference * counted
    scores = {}
    for model in inputs.models:
        prediction = _read_prediction(model.files[case], grid) if case in model.files else None
        if prediction is not None and counted is not None:
            prediction = prediction * counted
        values = sorted(
            inputs.classes or values_in(reference) | (set() if prediction is None else values_in(prediction))
        )
        tolerances = {value: _tolerance_mm(value, inputs.classes.get(value, str(value)), config) for value in values}
        scores[model.name] = score_case(
            case, reference, prediction, grid, tolerances, lesions=config.lesions, workers=threads
        )
    return scores


def _read_prediction(path: Path, grid: Grid) -> NDArray[np.integer]:
    labels, own = read_labels(path)
    return labels if own.difference_mm(grid) <= SAME_GRID_MM else onto_grid(labels, own, grid)


def _tolerance_mm(value: int, name: str, config: EvaluateConfig) -> float:
    given = config.tolerances_mm
    return given.get(name, given.get(str(value), config.tolerance_mm))


def _reasons(evaluation: Evaluation, bounds: Mapping[str, float]) -> list[str]:
    reasons = []
    for model in evaluation.models:
        lead = f"{model.name}: " if len(evaluation.models) > 1 else ""
        if model.missing:
            named = ", ".join(model.missing)
            reasons.append(f"{lead}{len(model.missing)} of {evaluation.cases} cases have no prediction: {named}")
        reasons += [lead + reason for reason in gate_failures(model.classes, bounds)]
    return reasons
