"""report.html: one page that holds everything and asks the network for nothing."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unetpipe.evaluation.document import Evaluation
from unetpipe.evaluation.inputs import Inputs
from unetpipe.files import write_text
from unetpipe.metrics.scores import ClassScore
from unetpipe.report.overlays import choose_cases, codes_of, view_case
from unetpipe.report.pages import embedded, environment
from unetpipe.report.viewer3d import VIEWER, write_viewer

TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "Sensitivity",
    "precision": "Precision",
    "nsd": "NSD",
    "hd_mm": "HD (mm)",
    "hd95_mm": "HD95 (mm)",
    "assd_mm": "ASSD (mm)",
    "masd_mm": "MASD (mm)",
    "volume_error_ml": "Volume error (ml)",
    "volume_error_percent": "Volume error (%)",
    "lesion_f1": "Lesion F1",
    "lesions_missed": "Lesions missed",
    "lesions_false": "Lesions false",
}
OUTCOMES = {
    "matched": "matched",
    "missed": "missed",
    "false_positive": "false positive",
    "true_negative": "true negative",
    "no_prediction": "no prediction",
}
_DASH, _MINUS = "\u2013", "\u2212"
_MAIN = ("dice", "nsd", "hd95_mm", "assd_mm", "volume_error_percent")


def write_report(
    path: Path,
    evaluation: Evaluation,
    scores: Mapping[str, Sequence[ClassScore]],
    classes: Mapping[int, str],
    inputs: Inputs,
    reasons: Sequence[str],
    niivue: Path | None = None,
) -> Path | None:
    """Write the report, and beside it `viewer.html` if there is something to show in 3-D with.

    Args:
        path: Path of the HTML file.
        evaluation: Metric summaries of each class.
        scores: Scores of every class of every case, by model.
        classes: Names of the classes by label value.
        inputs: Files of the cases that are shown.
        reasons: Why the evaluation did not pass; empty if it did.
        niivue: Script of NiiVue, for the 3-D view where there is a case to show.

    Returns:
        Path of `viewer.html`, if there is one.
    """
    templates = environment()
    templates.filters["number"] = _number
    templates.filters["pvalue"] = _p_value
    metrics = list(evaluation.models[0].classes[0].figures)
    titles = TITLES | {metric: metric for metric in metrics if metric not in TITLES}
    payload = _payload(scores, classes, evaluation.higher_is_better, inputs)
    niivue = niivue if payload["views"] else None
    page = templates.get_template("report.html").render(
        evaluation=evaluation,
        reasons=reasons,
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        metrics=metrics,
        main=[metric for metric in metrics if metric in _MAIN or metric not in TITLES],
        titles=titles,
        outcomes=OUTCOMES,
        data=embedded(payload),
        viewer=VIEWER if niivue else "",
    )
    write_text(path, page)
    if niivue is None:
        return None
    write_viewer(path.with_name(VIEWER), payload, niivue)
    return path.with_name(VIEWER)


def _payload(
    scores: Mapping[str, Sequence[ClassScore]],
    classes: Mapping[int, str],
    higher_is_better: Mapping[str, bool],
    inputs: Inputs,
) -> dict[str, Any]:
    """Data of the page's scripts: rows of [model, case, class, outcome, reference ml, prediction ml, *metrics]."""
    cases = list(inputs.references)
    metrics = list(next(iter(scores.values()))[0].metrics())
    places = {case: position for position, case in enumerate(cases)}
    numbers = {value: position for position, value in enumerate(classes)}
    return {
        "models": list(scores),
        "cases": cases,
        "classes": list(classes.values()),
        "members": codes_of(classes, inputs.regions)[1],
        "outcomes": list(OUTCOMES.values()),
        "metrics": [{"key": key, "title": TITLES.get(key, key), "higher": higher_is_better[key]} for key in metrics],
        "rows": [
            [
                model,
                places[score.case],
                numbers[score.value],
                list(OUTCOMES).index(score.outcome),
                *(_rounded(value) for value in (score.reference_ml, score.prediction_ml)),
                *map(_rounded, score.metrics().values()),
            ]
            for model, items in enumerate(scores.values())
            for score in items
        ],
        "predicted": _predicted(scores, classes, inputs),
        "views": [view_case(chosen, inputs, classes) for chosen in choose_cases(scores)],
    }


def _predicted(
    scores: Mapping[str, Sequence[ClassScore]], classes: Mapping[int, str], inputs: Inputs
) -> list[list[float]]:
    """Pairs of a row's index and the Dice that was predicted for it."""
    known = {model.name: model.predicted for model in inputs.models}
    items = ((model, score) for model, own in scores.items() for score in own)
    return [
        [index, one.dice]
        for index, (model, score) in enumerate(items)
        if (one := known[model].get(score.case, {}).get(classes[score.value])) is not None
    ]


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.5g}")


def _number(value: float, metric: str = "dice") -> str:
    """Format a value with the digits that suit the metric, or a dash where it is undefined."""
    if math.isnan(value):
        return _DASH
    if value and abs(value) < 0.01 and metric.endswith(("_mm", "_ml")):  # such as those of cells
        return f"{value:.3g}".replace("-", _MINUS)
    digits = 1 if metric.endswith("percent") or metric.startswith("lesions") else 2 if metric.endswith("_mm") else 3
    return f"{value:.{digits}f}".replace("-", _MINUS)


def _p_value(value: float) -> str:
    if math.isnan(value):
        return _DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
