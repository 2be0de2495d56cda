"""Predictions against references: scores of each case, a summary of each class, a comparison of models, a report."""

import logging
from collections.abc import Sequence
from pathlib import Path

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.cores import available_cores
from unetpipe.documents import Record
from unetpipe.errors import UnetpipeError, counted, listed
from unetpipe.evaluation.conclusions import draw_conclusions
from unetpipe.evaluation.document import Evaluation
from unetpipe.evaluation.gate import gate_failures, require_measured
from unetpipe.evaluation.groups_table import read_groups
from unetpipe.evaluation.inputs import Inputs
from unetpipe.evaluation.labels import reference_grid
from unetpipe.evaluation.named_metrics import NamedMetric, find_metrics
from unetpipe.evaluation.pairing import gather_inputs, work_of
from unetpipe.evaluation.predicted_dice import PredictionCheck
from unetpipe.evaluation.pseudonyms import names_of_files
from unetpipe.evaluation.ranking import RankedModel
from unetpipe.evaluation.rows import (
    ClassRow,
    ComparisonRow,
    FurtherRow,
    GroupRow,
    class_rows,
    comparison_rows,
    further_rows,
    group_rows,
    prediction_rows,
)
from unetpipe.evaluation.scoring import check_grids, require_classes, score_all
from unetpipe.extensions import load_extensions
from unetpipe.folder_lock import claimed
from unetpipe.imaging.size_limit import reading_at_most
from unetpipe.metrics.scores import HIGHER_IS_BETTER
from unetpipe.progress import Progress, SilentProgress
from unetpipe.report.tables import write_metrics, write_summary
from unetpipe.report.tracked_figures import Store, target_of, track
from unetpipe.tracking.named import find_tracker

log = logging.getLogger(__name__)

_ALWAYS = [name for name in HIGHER_IS_BETTER if not name.startswith("lesion")]


class EvaluateResult(Record):
    """The results and files of `evaluate`.

    Attributes:
        passed: Whether no prediction is missing and every bound of `fail_under` holds.
        reasons: Why the evaluation did not pass.
        missing: Cases without a prediction, each of which counts as a failure.
        extra: Predictions without a reference, which are not evaluated.
        hints: Sentences about label values and orientations that suggest a mistake in the files.
        classes: The figures asked for most; all of them are in summary.json.
        further: The figures of `--metric` and `--lesions`.
        ranking: Models in the order of their mean Dice; empty where there is one.
        comparison: Every further model against the first.
        groups: Every group of cases that was asked for.
        predicted_dice: Predicted against measured Dice of every class for which `infer` predicted it.
        tracking_runs: Ids of the tracking runs that have the figures now.
    """

    passed: bool
    reasons: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    hints: tuple[str, ...]
    metrics_csv: Path
    summary_json: Path
    report_html: Path | None
    viewer_html: Path | None
    classes: tuple[ClassRow, ...]
    further: tuple[FurtherRow, ...]
    ranking: tuple[RankedModel, ...]
    comparison: tuple[ComparisonRow, ...]
    groups: tuple[GroupRow, ...]
    predicted_dice: tuple[PredictionCheck, ...]
    tracking_runs: tuple[str, ...]


def evaluate(
    config: EvaluateConfig,
    progress: Progress = SilentProgress(),  # noqa: B008 - it has no state
) -> EvaluateResult:
    """Measure predictions against references and write metrics.csv, summary.json and report.html.

    Raises:
        ExtensionError: If an extension is not there or fails while it is imported.
        DatasetError: If files are missing, unreadable, not labels, or on another grid; lists every such case.
        ComponentError: If a metric that is named cannot be used.
        UnetpipeError: If a tolerance, bound or column names something that is not there, or NiiVue is wanted and is
            not there, or another process writes the same outputs.
    """
    if config.choose and config.cross_validation:
        raise UnetpipeError("choose runs networks, which evaluate does not: call unetpipe.choose")
    load_extensions(config.extension)
    find_tracker(config.tracking)
    niivue = _viewer(config)
    inputs = gather_inputs(config)
    names = names_of_files(inputs.references, inputs.images)
    with names.hidden(), reading_at_most(config.max_voxels), claimed(config.out):
        return _evaluate(config, inputs, niivue, progress)


def require_evaluable(config: EvaluateConfig) -> None:
    """See that `evaluate` can be run with these options, before all that it is to evaluate is made.

    Args:
        config: The evaluation, of predictions of which some are there.

    Raises:
        DatasetError, ComponentError, UnetpipeError: As `evaluate`, for what files do not decide.
    """
    find_tracker(config.tracking)
    _viewer(config)
    with reading_at_most(config.max_voxels):
        _parts(config, gather_inputs(config))


def _parts(config: EvaluateConfig, inputs: Inputs) -> tuple[list[NamedMetric], dict[str, dict[str, str]]]:
    """The metrics and columns that the options name."""
    metrics = _metrics(config, inputs)
    columns = _columns(config, inputs)
    counted = list(HIGHER_IS_BETTER) if config.lesions else _ALWAYS
    require_measured(config.fail_under, [*counted, *(metric.name for metric in metrics)])
    if inputs.classes:
        require_classes(config.tolerances_mm, inputs.classes)
    return metrics, columns


def _evaluate(config: EvaluateConfig, inputs: Inputs, niivue: Path | None, progress: Progress) -> EvaluateResult:
    metrics, columns = _parts(config, inputs)
    for column, values in columns.items():
        if lacking := len(inputs.references) - len(values):
            log.warning("cases without a value in column %s, which are in no group: %d", column, lacking)
    workers = config.workers or available_cores()
    missing, extra = _named(inputs, "missing"), _named(inputs, "extra")
    if missing:
        failures = counted(
            len(missing), "missing prediction counts as a failure", "missing predictions count as failures"
        )
        log.warning("%s: %s", failures, listed(missing))
    if extra:
        found = counted(len(extra), "prediction without a reference is", "predictions without a reference are")
        log.warning("%s left out, such as %s", found, extra[0])
    if not config.resample:
        check_grids(inputs, workers)
    scored = score_all(inputs, config, metrics, workers, progress)
    evaluation = draw_conclusions(scored, inputs, metrics, columns, config.seed)
    reasons = _reasons(evaluation, inputs, config)
    metrics_csv, summary_json = config.out / "metrics.csv", config.out / "summary.json"
    write_metrics(metrics_csv, scored.scores, scored.classes)
    write_summary(summary_json, evaluation)
    files = [metrics_csv, summary_json]
    report_html = viewer_html = None
    if config.report:
        from unetpipe.report.html import write_report  # a quarter of a second

        report_html = config.out / "report.html"
        viewer_html = write_report(report_html, evaluation, scored.scores, scored.classes, inputs, reasons, niivue)
        files += [report_html, viewer_html] if viewer_html else [report_html]
    return EvaluateResult(
        passed=not reasons,
        reasons=tuple(reasons),
        missing=missing,
        extra=extra,
        hints=scored.hints,
        metrics_csv=metrics_csv,
        summary_json=summary_json,
        report_html=report_html,
        viewer_html=viewer_html,
        classes=class_rows(evaluation),
        further=further_rows(evaluation, [name for name in evaluation.higher_is_better if name not in _ALWAYS]),
        ranking=evaluation.ranking,
        comparison=comparison_rows(evaluation),
        groups=group_rows(evaluation),
        predicted_dice=prediction_rows(evaluation),
        tracking_runs=_tracked(config, evaluation, [] if inputs.names_patients else files),
    )


def _metrics(config: EvaluateConfig, inputs: Inputs) -> list[NamedMetric]:
    """The metrics that the config names besides the package's own, tried on masks of the first reference's axes."""
    if not config.metric:
        return []
    return find_metrics(config.metric, reference_grid(next(iter(inputs.references)), inputs).ndim)


def _columns(config: EvaluateConfig, inputs: Inputs) -> dict[str, dict[str, str]]:
    """Values of each case in the columns that split the cases into groups."""
    if not config.by:
        return {}
    if config.table is None:
        raise UnetpipeError("--by names columns of a table: give it by --table")
    columns = read_groups(config.table, config.by, inputs.references, dict(inputs.patients), inputs.known_as)
    for column, values in columns.items():
        if not values:
            raise UnetpipeError(f"--by: column {column} of {config.table.name} has no value of any evaluated case")
    return columns


def _viewer(config: EvaluateConfig) -> Path | None:
    if config.viewer is None or not config.report:
        return None
    from unetpipe.report.viewer3d import find_niivue  # jinja2, a quarter of a second

    return find_niivue()


def _tracked(config: EvaluateConfig, evaluation: Evaluation, files: Sequence[Path]) -> tuple[str, ...]:
    """Add each model's figures to its run; the first of several models that name one run is the one that counts."""
    runs: dict[str, None] = {}
    for model, path in zip(evaluation.models, config.predictions, strict=True):
        target = target_of(model, config.run_name if config.cross_validation else None)
        if target is None or target.run_id in runs:
            continue
        store = Store(config.tracking, path if config.cross_validation else work_of(config))
        run = track(model, target, evaluation, files, store)
        if run is not None:
            runs[run] = None
    if runs and not files:
        log.info("MLflow has the figures only: report and tables hold names of DICOM cases, which may be patients'")
    return tuple(runs)


def _named(inputs: Inputs, what: str) -> tuple[str, ...]:
    """Cases that are missing or extra, with the model's name where there are several."""
    several = len(inputs.models) > 1
    return tuple(
        f"{model.name}/{case}" if several else case for model in inputs.models for case in getattr(model, what)
    )


def _reasons(evaluation: Evaluation, inputs: Inputs, config: EvaluateConfig) -> list[str]:
    reasons = []
    for model, found in zip(evaluation.models, inputs.models, strict=True):
        lead = f"{model.name}: " if len(evaluation.models) > 1 else ""
        if found.missing:
            names = listed(found.missing)
            cases = counted(evaluation.cases, "case has", "cases have")
            reasons.append(f"{lead}{len(found.missing)} of {cases} no prediction: {names}")
        failures = gate_failures(model.classes, config.fail_under, evaluation.higher_is_better)
        reasons += [lead + failure for failure in failures]
    return reasons
