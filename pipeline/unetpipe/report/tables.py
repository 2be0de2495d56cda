"""metrics.csv, one row per model, case and class, and summary.json."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from unetpipe.evaluation.document import Evaluation
from unetpipe.files import atomic_path, write_text
from unetpipe.metrics.scores import ClassScore

_LEAD = ("model", "case", "class", "value", "outcome")
_TAIL = ("reference_ml", "prediction_ml", "tolerance_mm")


def write_metrics(path: Path, scores: Mapping[str, Sequence[ClassScore]], names: Mapping[int, str]) -> None:
    """Write every score as a tidy table; what is not defined is an empty cell.

    Args:
        path: Path of the CSV file.
        scores: Scores by model.
        names: Names of the classes by label value.
    """
    metrics = list(next(iter(scores.values()))[0].metrics())  # every score has the same
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*_LEAD, *metrics, *_TAIL))
        for model, items in scores.items():
            for item in items:
                writer.writerow(
                    (
                        *(model, item.case, names[item.value], item.value, item.outcome),
                        *map(_cell, item.metrics().values()),
                        *(_cell(getattr(item, key)) for key in _TAIL),
                    )
                )


def write_summary(path: Path, evaluation: Evaluation) -> None:
    """Write the summary as JSON; what is not defined is null."""
    write_text(path, evaluation.model_dump_json(indent=1) + "\n")


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
