"""`summary.json`: everything an evaluation found, and what the figures mean."""

from importlib.metadata import version
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from unetpipe import __version__
from unetpipe.metrics.definitions import DEFINITIONS
from unetpipe.metrics.summary import ClassSummary, Figure

EVALUATION_SCHEMA = 1
_SHOWN = {"dice": "Dice", "nsd": "NSD", "hd95_mm": "HD95 mm", "volume_error_percent": "Volume error %"}


class Record(BaseModel):
    """Base of the documents: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelEvaluation(Record):
    """One model's figures.

    Attributes:
        name: Of the predictions' folder.
        missing: Cases without a prediction, each counted as a failure.
        extra: Predictions without a reference, not evaluated.
        classes: Figures per class.
    """

    name: str
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    classes: tuple[ClassSummary, ...]


class Evaluation(Record):
    """One or more models against the same references.

    Attributes:
        dataset: Name, where known.
        cases: How many references there are.
        seed: Of the bootstrap.
        versions: Of what computed the figures.
        definitions: Of every figure.
    """

    schema_version: Literal[1] = EVALUATION_SCHEMA
    dataset: str | None
    cases: int
    seed: int
    models: tuple[ModelEvaluation, ...]
    versions: dict[str, str] = Field(
        default_factory=lambda: {"unetpipe": __version__, **{name: version(name) for name in ("numpy", "scipy")}}
    )
    definitions: dict[str, str] = DEFINITIONS


def table_of(evaluation: Evaluation) -> tuple[tuple[str, ...], ...]:
    """Header and one row per model and class, as text for a terminal."""
    several = len(evaluation.models) > 1
    header = ("Class", "Cases", "Missed", "False pos.", *_SHOWN.values())
    rows = [
        (
            *((model.name,) if several else ()),
            item.name,
            str(item.present),
            str(item.missed),
            str(item.false_positives),
            *(_text(item.figures[metric], 1 if metric.endswith("percent") else 3) for metric in _SHOWN),
        )
        for model in evaluation.models
        for item in model.classes
    ]
    return ((*(("Model",) if several else ()), *header), *rows)


def _text(figure: Figure, digits: int) -> str:
    if not figure.n:
        return "-"
    interval = "" if figure.n < 2 else f" ({figure.low:.{digits}f} to {figure.high:.{digits}f})"
    return f"{figure.mean:.{digits}f}{interval}"
