"""`summary.json`: everything an evaluation found, and what the figures mean."""

from importlib.metadata import version
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from unetpipe import __version__
from unetpipe.dataset.predictions import ModelUsed
from unetpipe.metrics.compare import Comparison
from unetpipe.metrics.definitions import DEFINITIONS
from unetpipe.metrics.summary import ClassSummary

EVALUATION_SCHEMA = 1


class Record(BaseModel):
    """Base of the documents: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelEvaluation(Record):
    """One model's figures.

    Attributes:
        name: Of the predictions' folder.
        made_by: Bundles that made the predictions, where the folder says so.
        missing: Cases without a prediction, each counted as a failure.
        extra: Predictions without a reference, not evaluated.
        classes: Figures per class.
    """

    name: str
    made_by: tuple[ModelUsed, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    classes: tuple[ClassSummary, ...]


class Evaluation(Record):
    """One or more models against the same references.

    Attributes:
        dataset: Name, where known.
        cases: How many references there are.
        seed: Of the bootstrap.
        models: What each model reached.
        comparisons: Of every further model with the first.
        versions: Of what computed the figures.
        definitions: Of every figure.
    """

    schema_version: Literal[1] = EVALUATION_SCHEMA
    dataset: str | None
    cases: int
    seed: int
    models: tuple[ModelEvaluation, ...]
    comparisons: tuple[Comparison, ...] = ()
    versions: dict[str, str] = Field(
        default_factory=lambda: {"unetpipe": __version__, **{name: version(name) for name in ("numpy", "scipy")}}
    )
    definitions: dict[str, str] = DEFINITIONS
