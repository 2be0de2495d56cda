"""The outcome of inference for each scan: `predictions.json`, beside the labels that `infer` writes."""

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
    """The identity of a bundle, independent of where it is stored.

    Attributes:
        sha256: Hash of its weights.
        tracking_run: Id of the MLflow run that trained it; None without tracking.
    """

    name: str
    version: str
    sha256: str
    tracking_run: str | None = None


class Seconds(Record):
    """Wall time of loading a scan, predicting its labels and writing them, in seconds."""

    load: float
    predict: float
    write: float


class Prediction(Record):
    """The outcome for one scan.

    Attributes:
        id: Name of the scan. Its output files may be called differently (`dataset.case_names`).
        status: ``existing`` where ``--skip-existing`` found labels and left them as they are.
        output: File name of the labels.
        dicom: Whether the scan is a DICOM source, whose name, and with it `id`, may identify the patient.
        volumes_ml: Volume of each class but the background.
        agreement: Mean of `class_agreement`; low values indicate wrong labels. None with a single network and no
            mirroring, or where no class was found.
        class_agreement: Dice between the labels of folds and mirrored passes, for each class but the background that
            any of them found.
        peak_memory_mb: Peak memory of the process up to the end of this scan.
        warnings: Sentences about what a person should check.
        error: Why there are no labels; None where there are.
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
    """The outcome of one run of `infer`, or of one of its shards.

    Attributes:
        versions: Versions of unetpipe, MONAI and the engine.
        settings: Options that the labels depend on beside the models.
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
    """Read the predictions.json of an earlier run; None if it is missing or not readable."""
    try:
        return Predictions.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def volumes_ml(labels: NDArray[Any], grid: Grid, names: Mapping[int, str], background: int) -> dict[str, float]:
    """Volume of each class but the background.

    Args:
        labels: Label values, (*spatial).
        grid: Grid of the labels.
        names: Name of the class that each value stands for.
        background: Value of the background.

    Returns:
        Millilitres by name.
    """
    lowest, highest = min(names), max(names)
    counts = np.zeros(highest - lowest + 1, dtype=np.int64)
    for plane in labels:  # bincount copies to 8 bytes per voxel: plane by plane that is nothing
        counts += np.bincount(plane.ravel().astype(np.int64) - lowest, minlength=len(counts))
    return {name: float(counts[v - lowest] * grid.voxel_ml) for v, name in names.items() if v != background}


def label_warnings(labels: NDArray[Any], names: Mapping[int, str], background: int) -> list[str]:
    """Warnings about labels that hold no class, or a class that the edge of the scan cuts off."""
    faces: set[int] = set()
    for axis, size in enumerate(labels.shape):
        if size > 1:
            faces.update(*(np.unique(labels.take(index, axis)).tolist() for index in (0, size - 1)))
    if not (labels != background).any():
        return ["empty: no class was found"]
    cut = [names[value] for value in sorted(faces - {background})]
    return [f"touches the border of the scan, so its volume may be cut off: {', '.join(cut)}"] if cut else []
