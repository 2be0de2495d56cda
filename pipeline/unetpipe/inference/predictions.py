"""The outcome of inference for each scan: `predictions.json`, beside the labels that `infer` writes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from unetpipe.dataset.checks.statistics import label_counts
from unetpipe.dataset.label_scheme import LabelScheme
from unetpipe.documents import Record, write_document
from unetpipe.imaging.geometry import Grid
from unetpipe.inference.quality import PredictedDice

PREDICTIONS_SCHEMA: Final = 1
# settings that labels and their DICOM objects depend on, on any machine
_ESSENTIAL = ("step", "tta", "postprocess", "reading", "seg_type", "uncoded", "code")


class ModelUsed(Record):
    """The identity of a bundle, independent of where it is stored.

    Attributes:
        sha256: Hash of its weights.
        tracking_run: Id of the MLflow run that trained it; None without tracking.
        registered: Version of MLflow's registry that it was fetched as, ``models:/NAME/VERSION``; None where it was
            called by a path or a name.
    """

    name: str
    version: str
    sha256: str
    tracking_run: str | None = None
    registered: str | None = None


class Seconds(Record):
    """Wall time of loading a scan, predicting its labels and writing them, in seconds.

    A scan pays for the batches that it begins, in which there may be windows of the next scans.
    """

    load: float
    predict: float
    write: float


class Prediction(Record):
    """The outcome for one scan.

    Attributes:
        id: Name of the scan. Its output files may be called differently (`dataset.case_names`).
        status: ``existing`` where ``--skip-existing`` found labels and left them as they are.
        output: File name of the label map; None where none is written.
        dicom_output: File of each DICOM format that is written, relative to the folder of predictions.json.
        dicom: Whether the scan is a DICOM source, whose name, and with it `id`, may identify the patient.
        volumes_ml: Volume of each class but the background.
        agreement: Mean of `class_agreement`; low values indicate wrong labels. None with a single network and no
            mirroring, or where no class was found.
        class_agreement: Dice between the labels of folds and mirrored passes, for each class but the background that
            any of them found.
        predicted_dice: Dice to be expected of each class but the background, with the interval that nine of ten
            held-out cases lay in (`inference.quality`); empty where the models do not know.
        flagged: Names of the classes whose predicted Dice is below `--flag-below`.
        peak_memory_mb: Peak memory of the process up to the end of this scan.
        warnings: Sentences about what a person should check.
        error: Why there are no labels; None where there are.
    """

    id: str
    status: Literal["written", "existing", "failed"]
    output: str | None = None
    dicom_output: Mapping[str, str] = {}
    dicom: bool = False
    seconds: Seconds | None = None
    peak_memory_mb: float | None = None
    volumes_ml: Mapping[str, float] = {}
    agreement: float | None = None
    class_agreement: Mapping[str, float] = {}
    predicted_dice: Mapping[str, PredictedDice] = {}
    flagged: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Files that hold the labels, relative to the folder of predictions.json."""
        return (*filter(None, [self.output]), *self.dicom_output.values())


class Predictions(Record):
    """The outcome of one run of `infer`, or of one of its shards.

    Attributes:
        versions: Versions of unetpipe, MONAI and the engine.
        settings: Options that the labels depend on beside the models.
        scans: Number of scans of the run; there are fewer `cases` while it lasts, or where it was interrupted. None in
            files of earlier versions.
        cases: Outcome of each scan, sorted by case id.
    """

    schema_version: Literal[1] = PREDICTIONS_SCHEMA
    models: tuple[ModelUsed, ...]
    versions: Mapping[str, str]
    device: str
    settings: Mapping[str, str | float | int | bool]
    scans: int | None = None
    cases: tuple[Prediction, ...]


def predictions_path(out: Path, shard: str | None = None) -> Path:
    """Path of a run's outcome, or of that of a shard such as ``3/16``, in the folder of its labels."""
    return out / f"predictions{_part(shard)}.json"


def lock_name(shard: str | None) -> str:
    """Name of the lock on what a run, or a shard of it, writes."""
    return f".lock{_part(shard)}"


def _part(shard: str | None) -> str:
    return "" if shard is None else "-" + shard.replace("/", "-of-")


def read_predictions(path: Path) -> Predictions | None:
    """Read the predictions.json of an earlier run; None if it is missing or not readable."""
    try:
        return Predictions.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def made_otherwise(
    folder: Path, ids: Collection[str], models: Sequence[ModelUsed], settings: Mapping[str, str | float | int | bool]
) -> list[str]:
    """Scans whose labels in a folder are of other models or options, as the newest predictions.json that has them says.

    Precision and engine are not compared: a machine chooses them, and the shards of a run may have several.

    Args:
        folder: Folder of the labels.
        ids: Ids of the scans that are looked for.
        models: Models that would be used now.
        settings: Options that would be used now.
    """
    now, known = _essence(models, settings), _known(folder)
    reports = {one: known[one][0] for one in ids if one in known}
    return sorted(one for one, report in reports.items() if _essence(report.models, report.settings) != now)


def unreported_since(
    path: Path, models: Sequence[ModelUsed], settings: Mapping[str, str | float | int | bool]
) -> float | None:
    """When a run like this one last wrote its report: labels from then on are its own, though it was killed since.

    Args:
        path: Path of the predictions.json.
        models: Models that would be used now.
        settings: Options that would be used now.

    Returns:
        Time of the report's last change; None where it is of other models or options, or cannot be read.
    """
    report = read_predictions(path)
    alike = report is not None and _essence(report.models, report.settings) == _essence(models, settings)
    return path.stat().st_mtime if alike else None


def _essence(used: Iterable[ModelUsed], chosen: Mapping[str, object]) -> object:
    return [(model.sha256, model.version) for model in used], [chosen.get(name) for name in _ESSENTIAL]


def reported(folder: Path) -> dict[str, Prediction] | None:
    """What reports in a folder say of scans that have labels, by their ids; None where no report can be read."""
    readable = any(read_predictions(path) for path in folder.glob("predictions*.json"))
    return {one: record for one, (_, record) in _known(folder).items()} if readable else None


def _known(folder: Path) -> dict[str, tuple[Predictions, Prediction]]:
    """The newest report in a folder that says of a scan that it has labels, and what it says, by the scan's id."""
    known: dict[str, tuple[Predictions, Prediction]] = {}
    for path in sorted(folder.glob("predictions*.json"), key=lambda path: path.stat().st_mtime_ns):
        if report := read_predictions(path):
            known |= {one.id: (report, one) for one in report.cases if one.status != "failed"}
    return known


class PredictionsFile:
    """Collects the outcome of each scan, and writes them whenever it is asked to.

    Attributes:
        path: Path of the predictions.json.
        predictions: Outcomes by the id of their scans.
    """

    def __init__(self, folder: Path, shard: str | None, scans: int) -> None:
        """Begin without an outcome.

        Args:
            folder: Folder of the labels.
            shard: Part of the scans that these are, as I/N; each part has a file of its own.
            scans: Number of these scans.
        """
        self.path = predictions_path(folder, shard)
        self._scans = scans
        self.predictions: dict[str, Prediction] = {}

    def keep(self, existing: Iterable[Prediction], *, flag_below: float | None) -> None:
        """Take over what earlier runs wrote about scans whose labels are left as they are.

        Args:
            existing: Outcomes that are known without the earlier runs.
            flag_below: Predicted Dice below which a class is flagged; None flags none.
        """
        known = _known(self.path.parent)
        for plain in existing:
            _, record = known.get(plain.id, (None, plain))
            flagged = low_classes(record.predicted_dice, flag_below)
            self.predictions[plain.id] = record.model_copy(
                update={"status": "existing", "error": None, "flagged": flagged}
            )

    def write(
        self,
        models: tuple[ModelUsed, ...],
        versions: Mapping[str, str],
        device: str,
        settings: Mapping[str, str | float | int | bool],
    ) -> None:
        """Write all outcomes so far, with the attributes that `Predictions` has beside them."""
        records = list(self.predictions.values())  # in one go, since another thread may be adding one
        cases = tuple(sorted(records, key=lambda record: record.id))
        write_document(
            self.path,
            Predictions(
                models=models,
                versions=versions,
                device=device,
                settings=settings,
                scans=self._scans,
                cases=cases,
            ),
        )


def low_classes(predicted: Mapping[str, PredictedDice], flag_below: float | None) -> tuple[str, ...]:
    """Names of the classes whose predicted Dice is below a threshold; none where there is no threshold."""
    return tuple(name for name, one in predicted.items() if one.dice < (flag_below or 0))


def volumes_ml(labels: NDArray[np.integer], grid: Grid, scheme: LabelScheme) -> dict[str, float]:
    """Volume of each class but the background, or of each region all that belongs to it.

    Args:
        labels: Label values, (*spatial).
        grid: Grid of the labels.
        scheme: Label scheme of the predictions.

    Returns:
        Millilitres by name.
    """
    counts = label_counts(labels) or {}
    found = zip(scheme.names, scheme.values, strict=True)
    return {name: sum(counts.get(value, 0) for value in values) * grid.voxel_ml for name, values in found}


def label_warnings(labels: NDArray[np.integer], scheme: LabelScheme) -> list[str]:
    """Warnings about labels that hold no class, or a class that the edge of the scan cuts off.

    Args:
        labels: Label values, (*spatial).
        scheme: Label scheme of the predictions.
    """
    background, *classes = scheme.labels
    if not (labels != background.value).any():
        return ["empty: no class was found"]
    faces: set[int] = set()
    for axis, size in enumerate(labels.shape):
        if size > 1:
            faces.update(*(np.unique(labels.take(index, axis)).tolist() for index in (0, size - 1)))
    cut = [one.name for one in sorted(classes, key=lambda one: one.value) if one.value in faces]
    return [f"touches the border of the scan, so its volume may be cut off: {', '.join(cut)}"] if cut else []
