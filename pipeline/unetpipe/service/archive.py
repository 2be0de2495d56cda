"""`unetpipe infer --dicomweb`: studies of a DICOMweb server, segmented, and the results stored beside them."""

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from unetpipe.config.infer import InferConfig, OutputFormat
from unetpipe.errors import ServiceError, UnetpipeError
from unetpipe.imaging.dicom.options import is_uid
from unetpipe.inference.predictions import Prediction, read_predictions
from unetpipe.progress import Progress, SilentProgress
from unetpipe.service.clinic import clinic_extra
from unetpipe.service.config import ArchiveInferConfig
from unetpipe.service.credentials import credentials_from
from unetpipe.service.retries import retried
from unetpipe.stages.infer import InferResult, infer, infer_with, load_predictor

if TYPE_CHECKING:
    from unetpipe.service.dicomweb import DicomwebServer

log = logging.getLogger(__name__)


class ArchiveInferResult(InferResult):
    """The predictions and warnings of `infer`.

    Attributes:
        stored: Results that the DICOMweb server has taken.
    """

    stored: int


def infer_from_archive(
    config: ArchiveInferConfig,
    progress: Progress = SilentProgress(),  # noqa: B008 - it has no state
) -> InferResult:
    """Segment scans as `infer` does; where a DICOMweb server is named, its studies, and store the results there.

    What is fetched lies in a temporary folder that only its owner can read, and is gone afterwards. A result that the
    server does not take stays in the output folder and is listed among the failures.

    Raises:
        ServiceError: If dicomweb-client is not installed, or the server refuses, has no such study, or does not answer
            after several attempts.
        UnetpipeError: As `infer`.
    """
    options = {name: getattr(config, name) for name in InferConfig.model_fields}
    if config.dicomweb is None:
        return infer(InferConfig(**options), progress)
    with clinic_extra():
        from unetpipe.service.dicomweb import DicomwebServer
    server = DicomwebServer(config.dicomweb, credentials_from())
    options["format"] = _formats(config)
    predictor = load_predictor(InferConfig(**options))  # before anything is fetched for it
    with tempfile.TemporaryDirectory(prefix="unetpipe-") as scratch:
        folders = []
        with progress.task("fetch", len(config.study)) as advance:
            for number, study in enumerate(config.study, start=1):
                folders.append(Path(scratch) / study)  # which the site's table of sources keeps
                _fetch(server, study, config.series, folders[-1], f"study {number} of {len(config.study)}")
                advance()
        options["inputs"] = tuple(folders)
        result = infer_with(predictor, InferConfig(**options), progress)
    predictions = read_predictions(result.predictions)
    stored, failed = _stored(server, config.out, () if predictions is None else predictions.cases)
    return ArchiveInferResult(**{**dict(result), "failed": {**result.failed, **failed}, "stored": stored})


def _formats(config: ArchiveInferConfig) -> tuple[OutputFormat, ...]:
    """The formats that are asked for, with at least one that an archive takes."""
    return config.format if set(config.format) - {"nifti"} else (*config.format, "dicom-seg")


def _fetch(server: "DicomwebServer", study: str, choices: tuple[str, ...], folder: Path, name: str) -> None:
    """Fetch the series of a study that are named by their UIDs, or all that hold images.

    Raises:
        ServiceError: If the server does not give them.
    """
    try:
        if not is_uid(study):
            raise ServiceError("--study takes a StudyInstanceUID")
        series = server.image_series(study)
        if choices and all(map(is_uid, choices)):
            series = [one for one in series if one.uid in choices]
            if len(series) != len(set(choices)):
                raise ServiceError("the DICOMweb server has not got every series of --series")
        for one in series:
            server.fetch(study, one, folder)
    except ServiceError as error:
        raise type(error)(f"{name}: {error}") from None


def _stored(server: "DicomwebServer", out: Path, cases: tuple[Prediction, ...]) -> tuple[int, dict[str, str]]:
    """Store the DICOM outputs of all cases; returns how many were, and why others were not, by case."""
    stored, failed = 0, {}
    for case in cases:
        for name in case.dicom_output.values():
            try:
                retried(lambda path=out / name: server.store(path))  # type: ignore[misc] # bound for each result
                stored += 1
            except UnetpipeError as error:
                failed[case.id] = f"its result was not stored: {error}"
                log.warning("%s: its result was not stored: %s", case.id, error)
    return stored, failed
