"""`summary.json`: the results of an evaluation, and the definition of every metric."""

import math
from collections.abc import Mapping
from hashlib import file_digest, sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from unetpipe import __version__
from unetpipe.documents import Record
from unetpipe.evaluation.comparison import Comparison
from unetpipe.evaluation.definitions import DEFINITIONS
from unetpipe.evaluation.predicted_dice import PredictionCheck
from unetpipe.evaluation.ranking import RankedModel
from unetpipe.evaluation.subgroups import Subgroups
from unetpipe.evaluation.summary import ClassSummary
from unetpipe.inference.predictions import ModelUsed
from unetpipe.metrics.scores import HIGHER_IS_BETTER

EVALUATION_SCHEMA: Final = 1


class ModelEvaluation(Record):
    """Results of one model.

    Attributes:
        name: Name of the predictions' folder.
        made_by: Bundles that made the predictions, where the folder names them.
        missing: Cases without a prediction, each of which counts as a failure.
        extra: Predictions without a reference, which are not evaluated.
        classes: Summary of each class.
    """

    name: str
    made_by: tuple[ModelUsed, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    classes: tuple[ClassSummary, ...]

    @property
    def mean_dice(self) -> float:
        """Mean of the classes' mean Dice; NaN if no class has one."""
        means = [item.figures["dice"].mean for item in self.classes if item.figures["dice"].n]
        return sum(means) / len(means) if means else math.nan


class Evaluation(Record):
    """One or more models against the same references.

    Attributes:
        dataset: Name of the dataset, where a work folder gives one.
        cases: Number of references.
        references_sha256: Hash of the references' ids and contents.
        seed: Seed of the bootstrap.
        models: Results of each model.
        ranking: Models in the order of their mean Dice; empty where there is one.
        comparisons: Comparison of every further model with the first.
        predicted_dice: Predicted against measured Dice, for models whose predictions.json has predictions.
        subgroups: Figures of every model by groups of cases, for each column that was asked for.
        hints: Sentences about what suggests a mistake in the files, such as masks of 255 against masks of 1.
        versions: Versions of the packages that computed the metrics.
        definitions: Definition of every metric.
        higher_is_better: Whether a higher value of a metric is better; of volume errors, the absolute value counts.
    """

    schema_version: Literal[1] = EVALUATION_SCHEMA
    dataset: str | None
    cases: int
    references_sha256: str
    seed: int
    models: tuple[ModelEvaluation, ...]
    ranking: tuple[RankedModel, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    predicted_dice: tuple[PredictionCheck, ...] = ()
    subgroups: tuple[Subgroups, ...] = ()
    hints: tuple[str, ...] = ()
    versions: dict[str, str] = Field(
        default_factory=lambda: {"unetpipe": __version__, **{name: version(name) for name in ("numpy", "scipy")}}
    )
    definitions: dict[str, str] = DEFINITIONS
    higher_is_better: dict[str, bool] = Field(default_factory=lambda: dict(HIGHER_IS_BETTER))


def digest(files: Mapping[str, Path]) -> str:
    """SHA-256 over the ids and contents of files in the order of their ids; of a folder, only the id counts.

    Args:
        files: Files by case id.
    """
    total = sha256()
    for case in sorted(files):
        total.update(case.encode() + b"\0")
        if files[case].is_file():
            with files[case].open("rb") as stream:
                total.update(file_digest(stream, "sha256").digest())
    return total.hexdigest()
