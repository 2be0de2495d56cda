"""What became of each scan: `predictions.json`, beside the labels that `infer` writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from unetpipe.documents import Record, write_document
from unetpipe.imaging.geometry import Grid

PREDICTIONS_SCHEMA: Final = 1


class ModelUsed(Record):
    """A bundle, by what identifies it anywhere.

    Attributes:
        sha256: Of its weights.
        tracking_run: Id of the MLflow run that trained it, where there was one.
    """

    name: str
    version: str
    sha256: str
    tracking_run: str | None = None


class Seconds(Record):
    """Wall time at each station."""

    load: float
    predict: float
    write: float


class Prediction(Record):
    """One scan.

    Attributes:
        status: ``existing`` was left as it was by ``--skip-existing``.
        output: File name of the labels.
        dicom: The scan is a DICOM series; its folder's name, which is the id, may tell who the patient is.
        volumes_ml: Of each class but the background.
        agreement: Mean of `class_agreement`: low where the labels are likely to be wrong. None with a single network
            and no mirroring, or where nothing was found.
        class_agreement: Dice between folds and mirrored passes, of each class but the background that one found.
        peak_memory_mb: Of the whole process, up to the end of this scan.
        warnings: What a person should look at.
        error: Why there are no labels.
    """

    id: str
    status: Literal["written", "existing", "failed"]
    output: str | None = None
    dicom: bool = False
    seconds: Seconds | None = None
    peak_memory_mb: float | None = None
    volumes_ml: Mapping[str, float] = {}
    agreement: float | None = None
    class_agreement: Mapping[str, float] = {}
    warnings: tuple[str, ...] = ()
    error: str | None = None


class Predictions(Record):
    """A run of `infer`, or of one of its shards.

    Attributes:
        versions: Of unetpipe, monai and the engine.
        settings: What the labels depend on beside the models.
        cases: Sorted by id.
    """

    schema_version: Literal[1] = PREDICTIONS_SCHEMA
    models: tuple[ModelUsed, ...]
    versions: Mapping[str, str]
    device: str
    settings: Mapping[str, str | float | int | bool]
    cases: tuple[Prediction, ...]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions.json, atomically."""
    write_document(path, predictions)


def read_predictions(path: Path) -> Predictions | None:
    """Read what an earlier run wrote; None where there is nothing that can be read."""
    try:
        return Predictions.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def volumes_ml(labels: NDArray[Any], grid: Grid, names: Mapping[int, str], background: int) -> dict[str, float]:
    """Volume of each class but the background.

    Args:
        labels: Label values, (*spatial).
        grid: Of the labels.
        names: Class of each value.
        background: Its value.
    """
    lowest, highest = min(names), max(names)
    counts = np.zeros(highest - lowest + 1, dtype=np.int64)
    for plane in labels:  # bincount copies to 8 bytes per voxel: plane by plane that is nothing
        counts += np.bincount(plane.ravel().astype(np.int64) - lowest, minlength=len(counts))
    return {name: float(counts[v - lowest] * grid.voxel_ml) for v, name in names.items() if v != background}


def label_warnings(labels: NDArray[Any], names: Mapping[int, str], background: int) -> list[str]:
    """What looks odd in labels: nothing found, or something cut off by the edge of the scan."""
    faces: set[int] = set()
    for axis, size in enumerate(labels.shape):
        if size > 1:
            faces.update(*(np.unique(labels.take(index, axis)).tolist() for index in (0, size - 1)))
    if not (labels != background).any():
        return ["empty: no class was found"]
    cut = [names[value] for value in sorted(faces - {background})]
    return [f"touches the border of the scan, so its volume may be cut off: {', '.join(cut)}"] if cut else []
