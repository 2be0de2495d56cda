"""Scans in, label maps out: load, segment and write at the same time, one scan at each station."""

import contextlib
import importlib.metadata
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from unetpipe.bundle.predictor import Predictor, PreparedImage, Segmentation
from unetpipe.bundle.read import Bundle
from unetpipe.config.infer import InferConfig
from unetpipe.dataset.manifest import Case
from unetpipe.dataset.privacy.case_ids import CaseIds
from unetpipe.dataset.privacy.source_names import SourceNames
from unetpipe.documents import Record
from unetpipe.errors import BundleError, ImageFileError, UnetpipeError
from unetpipe.extensions import load_extensions
from unetpipe.imaging.dicom.derived.algorithm import Algorithm, Model
from unetpipe.imaging.dicom.options import dicom_choices
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.image import read_image
from unetpipe.inference.dicom_outputs import DicomOutputs, Predicted, dicom_outputs, require_dicom
from unetpipe.inference.ensemble import is_out_of_memory
from unetpipe.inference.inputs import InputCase, find_inputs, read_list, shard_of
from unetpipe.inference.outputs import OutputFolder
from unetpipe.inference.predictions import (
    ModelUsed,
    Prediction,
    PredictionsFile,
    Seconds,
    label_warnings,
    volumes_ml,
)
from unetpipe.progress import Progress, SilentProgress
from unetpipe.streaming import stream

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_WRITES = 10.0


class InferResult(Record):
    """The predictions and warnings of `infer`.

    Attributes:
        written: Scans segmented now.
        skipped: Scans whose labels were there already.
        seconds: Wall time from the first scan's loading to the last one's writing.
        out: Folder of the labels.
        predictions: Record of each scan's outputs, as a file.
        warnings: Warnings to check, by scan.
        flagged: Classes whose predicted Dice is below `--flag-below`, by scan.
        failed: Why there are no labels, by scan.
    """

    written: int
    skipped: int
    seconds: float
    out: Path
    predictions: Path
    warnings: dict[str, tuple[str, ...]]
    flagged: dict[str, tuple[str, ...]]
    failed: dict[str, str]


def infer(
    config: InferConfig,
    progress: Progress = SilentProgress(),  # noqa: B008 - it has no state
) -> InferResult:
    """Segment scans and write labels on their own grids, one file per scan, each either whole or not there.

    A scan that cannot be read, segmented or written is listed in the result; the others go on.

    Raises:
        ExtensionError: If an extension is not there or fails while it is imported.
        BundleError: If a model cannot be used, or has no code for a class of a DICOM output.
        TrackingError: If a registered model cannot be fetched.
        DatasetError: If an input does not exist or holds no scan, or a DICOM output is wanted of another source.
    """
    return infer_with(load_predictor(config), config, progress)


def load_predictor(config: InferConfig) -> Predictor:
    """Load the models of a config, and the extensions that they need.

    Raises:
        ExtensionError: If an extension is not there or fails while it is imported.
        BundleError: If a model cannot be used, or has no code for a class of a DICOM output.
        TrackingError: If a registered model cannot be fetched.
    """
    load_extensions(config.extension)
    predictor = Predictor(
        config.models,
        device=config.device,
        precision=config.precision,
        engine=config.engine,
        step=config.step,
        batch=config.batch,
        tta=config.tta,
        postprocess=config.postprocess,
    )
    _dicom_outputs(config, predictor)
    return predictor


def infer_with(
    predictor: Predictor,
    config: InferConfig,
    progress: Progress = SilentProgress(),  # noqa: B008 - it has no state
) -> InferResult:
    """Segment scans as `infer` does, with models that are loaded already, as a service keeps them.

    Raises:
        BundleError: If the models have no code for a class of a DICOM output.
        DatasetError: If an input does not exist or holds no scan, or a DICOM output is wanted of another source.
    """
    if config.flag_below is not None and not predictor.qualities:
        raise BundleError("--flag-below needs a model that predicts its Dice: train it with at least 8 held-out cases")
    objects = _dicom_outputs(config, predictor)
    dicom = dicom_choices(config.series, config.phase, fix_geometry=config.fix_geometry)
    inputs = [*config.inputs, *(read_list(config.list) if config.list else [])]
    with tempfile.TemporaryDirectory(prefix="unetpipe-") as scratch:
        channels = len(predictor.spec.channels)
        ids = CaseIds(config.case_ids, config.out)
        cases = find_inputs(inputs, channels, patterns=config.images, dicom=dicom, ids=ids, scratch=Path(scratch))
        require_dicom(cases, objects.formats)
        mine = shard_of(cases, config.shard) if config.shard else cases
        return _infer(_Stations(config, predictor, objects), mine, progress)


def _infer(stations: "_Stations", cases: Sequence[InputCase], progress: Progress) -> InferResult:
    config, predictor = stations.config, stations.predictor
    file = PredictionsFile(config.out, config.shard, len(cases))
    done = [case for case in cases if config.skip_existing and all(path.is_file() for path in stations.files(case))]
    file.keep(stations.record(case, "existing") for case in done)
    waiting = [case for case in cases if case.id not in file.predictions]

    def save(case: InputCase, found: _Segmented) -> Prediction:
        # an interrupt waits for the save under way, whose outcome does not get here any more
        file.predictions[case.id] = record = stations.save(case, found)
        return record

    outcomes = stream(waiting, stations.load, stations.segment, save)
    started = last = time.perf_counter()
    try:
        with contextlib.closing(outcomes), progress.task("infer", len(waiting)) as advance:
            for outcome in outcomes:
                case = outcome.item
                if outcome.error is not None:
                    reason = _reason(outcome.error, case)
                    log.warning("%s: failed: %s", case.id, reason)
                    failed = Prediction(id=case.id, status="failed", dicom=case.is_dicom, error=reason)
                    file.predictions[case.id] = failed
                advance(note=case.id)
                if time.perf_counter() - last > _SECONDS_BETWEEN_WRITES:
                    _write(file, config, predictor)
                    last = time.perf_counter()
    finally:
        _write(file, config, predictor)
    records = [file.predictions[case.id] for case in cases]
    return InferResult(
        written=sum(record.status == "written" for record in records),
        skipped=len(done),
        seconds=round(time.perf_counter() - started, 3),
        out=config.out,
        predictions=file.path,
        warnings={record.id: record.warnings for record in records if record.warnings},
        flagged={record.id: record.flagged for record in records if record.flagged},
        failed={record.id: record.error or "" for record in records if record.status == "failed"},
    )


def _dicom_outputs(config: InferConfig, predictor: Predictor) -> DicomOutputs:
    algorithm = Algorithm(
        models=tuple(Model(name=one.name, version=one.version, sha256=one.sha256) for one in predictor.bundles),
        software=importlib.metadata.version("unetpipe"),
    )
    return dicom_outputs(config, predictor.spec.label_scheme, predictor.spec.segments, algorithm)


def _write(file: PredictionsFile, config: InferConfig, predictor: Predictor) -> None:
    differs = {} if predictor.differs is None else {"differs_from_float32": round(predictor.differs, 6)}
    file.write(
        models=tuple(
            ModelUsed(
                name=bundle.name,
                version=bundle.version,
                sha256=bundle.sha256,
                tracking_run=bundle.spec.tracking_run if isinstance(bundle, Bundle) else None,
            )
            for bundle in predictor.bundles
        ),
        versions={name: importlib.metadata.version(name) for name in ("unetpipe", "monai", config.engine)},
        device=predictor.device_name,
        settings={
            "precision": str(predictor.dtype).removeprefix("torch."),
            "engine": config.engine,
            **differs,
            "step": predictor.step,
            "tta": config.tta,
            "postprocess": config.postprocess,
        },
    )


@dataclass(frozen=True)
class _Loaded:
    """A scan on its way from the loader to the networks."""

    source: Grid
    images: tuple[PreparedImage, ...]
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class _Segmented:
    """A scan on its way from the networks to the writer."""

    loaded: _Loaded
    segmentation: Segmentation
    seconds: float


class _Stations:
    """The stations that a scan passes: each works on another scan at the same time."""

    def __init__(self, config: InferConfig, predictor: Predictor, objects: DicomOutputs) -> None:
        self.config, self.predictor, self._objects = config, predictor, objects
        self._outputs = OutputFolder(config.out, predictor.spec.label_scheme, config.format)

    def files(self, case: InputCase) -> list[Path]:
        """The files whose presence says that a scan is done."""
        labels = [self._outputs.labels_path(case)] if self._outputs.has_labels else []
        return [*labels, *self._objects.paths(case).values()]

    def record(self, case: InputCase, status: Literal["written", "existing"]) -> Prediction:
        """What is known of a scan that is done, whoever segmented it."""
        return Prediction(
            id=case.id,
            status=status,
            output=self._outputs.labels_path(case).name if self._outputs.has_labels else None,
            dicom_output={name: f"{name}/{path.name}" for name, path in self._objects.paths(case).items()},
            dicom=case.is_dicom,
        )

    def load(self, case: InputCase) -> _Loaded:
        """Read and preprocess; in the loader's thread."""
        if case.fault:
            raise ImageFileError(case.fault)
        start = time.perf_counter()
        image = read_image(case.paths, case.dicom, adopt_affine=self.config.fix_affine)
        images = self.predictor.prepare(image)
        warnings = self.predictor.warnings(image, images)
        return _Loaded(image.source, images, (*image.notes, *warnings), time.perf_counter() - start)

    def segment(self, _case: InputCase, loaded: _Loaded) -> _Segmented:
        """Run the networks; in the caller's thread."""
        start, config = time.perf_counter(), self.config
        segmentation = self.predictor.segment(
            loaded.images,
            entropy=config.save_uncertainty,
            probabilities=config.save_probabilities or self._objects.needs_probabilities,
        )
        return _Segmented(loaded, segmentation, time.perf_counter() - start)

    def save(self, case: InputCase, found: _Segmented) -> Prediction:
        """Write everything, the labels last: where they are, all is; in the writer's thread."""
        start, outputs = time.perf_counter(), self._outputs
        loaded, segmentation = found.loaded, found.segmentation
        labels, grid = segmentation.labels, loaded.source
        probabilities = segmentation.probabilities
        if self.config.save_probabilities and probabilities is not None:
            outputs.write_probabilities(case, probabilities, grid)
        if segmentation.entropy is not None:
            outputs.write_entropy(case, segmentation.entropy, grid)
        if self.config.save_classes:
            outputs.write_classes(case, labels, grid)
        agreement, predicted = segmentation.agreement, segmentation.predicted
        volumes = volumes_ml(labels, grid, outputs.scheme)
        objects = Predicted(
            grid=grid,
            labels=labels,
            probabilities=probabilities,
            volumes_ml=volumes,
            agreement=agreement,
            predicted=predicted,
        )
        notes = self._objects.write(case, objects)
        if outputs.has_labels:
            outputs.write_labels(case, labels, grid)
        known = {
            "seconds": Seconds(
                load=round(loaded.seconds, 3),
                predict=round(found.seconds, 3),
                write=round(time.perf_counter() - start, 3),
            ),
            "peak_memory_mb": _peak_memory_mb(),
            "volumes_ml": volumes,
            "agreement": round(fmean(agreement.values()), 4) if agreement else None,
            "class_agreement": {name: round(value, 4) for name, value in agreement.items()},
            "predicted_dice": {name: one.rounded() for name, one in predicted.items()},
            "flagged": tuple(name for name, one in predicted.items() if one.dice < (self.config.flag_below or 0)),
            "warnings": (*loaded.warnings, *notes, *label_warnings(labels, outputs.scheme)),
        }
        return self.record(case, "written").model_copy(update=known)


def _peak_memory_mb() -> float:
    """Largest resident memory of the process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)  # bytes there, KiB here


def _reason(error: Exception, case: InputCase) -> str:
    """Why a scan failed, in one line without the folders of its files."""
    if is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = (str(error).splitlines() or [""])[0]
    for path in case.paths:
        text = text.replace(f"{path.parent}/", "")
    text = SourceNames.of([Case(id=case.id, name=case.name, images=case.paths)]).hide(text)
    return text if isinstance(error, UnetpipeError) else f"{type(error).__name__}: {text}"
