"""Scans in, label maps out: load, segment and write at the same time, small scans several at once."""

import contextlib
import importlib.metadata
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.provenance import models_used, settings_used
from unetpipe.config.infer import InferConfig
from unetpipe.dataset.manifest import Case
from unetpipe.dataset.privacy.case_ids import CaseIds
from unetpipe.dataset.privacy.source_names import SourceNames
from unetpipe.documents import Record
from unetpipe.errors import BundleError, DatasetError, Fault, UnetpipeError, counted, is_out_of_memory
from unetpipe.extensions import load_extensions
from unetpipe.folder_lock import claimed
from unetpipe.imaging.dicom.derived.algorithm import Algorithm, Model
from unetpipe.imaging.dicom.options import dicom_choices
from unetpipe.imaging.size_limit import reading_at_most
from unetpipe.inference.dicom_outputs import DicomOutputs, dicom_outputs, require_dicom
from unetpipe.inference.inputs import InputCase, find_inputs, read_list, shard_of
from unetpipe.inference.predictions import (
    Prediction,
    PredictionsFile,
    lock_name,
    made_otherwise,
    reported,
    unreported_since,
)
from unetpipe.networks.determinism import deterministic
from unetpipe.networks.device import require_working
from unetpipe.progress import Progress, SilentProgress
from unetpipe.stages.scan_stations import Segmented, Stations
from unetpipe.streaming import stream_ahead

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_WRITES = 10.0
_WRITES_SHARE = 20.0  # as long as a write takes: a report of a hundred thousand scans takes seconds


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
        DatasetError: If an input does not exist or holds no scan, a DICOM output is wanted of another source, or labels
            would take the place of a scan.
        UnetpipeError: If another process writes the same outputs, or labels that `--skip-existing` finds are of
            another model or other options.
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
        DatasetError, UnetpipeError: As `infer`.
    """
    if config.flag_below is not None and not predictor.qualities:
        raise BundleError("--flag-below needs a model that predicts its Dice: train it with at least 8 held-out cases")
    objects = _dicom_outputs(config, predictor)
    dicom = dicom_choices(config.series, config.phase, fix_geometry=config.fix_geometry)
    inputs = [*config.inputs, *(read_list(config.list) if config.list else [])]
    with (
        reading_at_most(config.max_voxels),
        tempfile.TemporaryDirectory(prefix="unetpipe-") as scratch,
        deterministic(config.deterministic, predictor.device),
    ):
        cases = find_inputs(
            inputs,
            predictor.spec.channels,
            patterns=config.images,
            dicom=dicom,
            ids=CaseIds(config.case_ids, config.out),
            scratch=Path(scratch),
        )
        require_dicom(cases, objects.formats)
        stations = Stations(config, predictor, objects)
        _require_other_files(stations, cases)
        mine = shard_of(cases, config.shard) if config.shard else cases
        with claimed(config.out, lock=lock_name(config.shard)):
            return _infer(stations, mine, progress)


def _require_other_files(stations: Stations, cases: Sequence[InputCase]) -> None:
    """Refuse outputs that would take the place of a scan."""
    scans = {os.path.realpath(path) for case in cases for path in case.paths}  # also of a link to itself
    message = "its labels would take the place of a scan: name another folder with --out"
    replacing = [case.id for case in cases if any(os.path.realpath(path) in scans for path in stations.files(case))]
    if replacing:
        raise DatasetError([Fault(case=case, kind="replaces_scan", message=message) for case in replacing])


def _infer(stations: Stations, cases: Sequence[InputCase], progress: Progress) -> InferResult:
    config, predictor = stations.config, stations.predictor
    file = PredictionsFile(config.out, config.shard, len(cases))
    used = models_used(predictor), settings_used(config, predictor)
    done = _done(stations, cases, unreported_since(file.path, *used)) if config.skip_existing else []
    others = made_otherwise(config.out, {case.id for case in done}, *used)
    if others:
        raise UnetpipeError(
            f"labels of another model or of other options are there already, such as those of {others[0]}: "
            "name another folder with --out, or remove these labels"
        )
    file.keep((stations.record(case, "existing") for case in done), flag_below=config.flag_below)
    waiting = [case for case in cases if case.id not in file.predictions]
    before = reported(config.out) or {}
    _write(file, config, predictor)  # in place of an earlier run's report, which would pass for this one's

    def save(case: InputCase, found: Segmented) -> Prediction:
        # an interrupt waits for the save under way, whose outcome does not get here any more
        file.predictions[case.id] = record = stations.save(case, found)
        return record

    outcomes = stream_ahead(waiting, stations.load, lambda loaded: stations.segment(loaded, len(waiting)), save)
    started = last = time.perf_counter()
    pause = _SECONDS_BETWEEN_WRITES
    try:
        with contextlib.closing(outcomes), progress.task("infer", len(waiting)) as advance:
            for outcome in outcomes:
                case = outcome.item
                if outcome.error is not None:
                    require_working(predictor.device)  # or all scans to come would fail, and lose what they have
                    reason = _reason(outcome.error, case)
                    log.warning("%s: failed: %s", case.id, reason)
                    # labels of an earlier run would pass for this one's
                    stations.remove(case, before.get(case.id))
                    failed = Prediction(id=case.id, status="failed", dicom=case.is_dicom, error=reason)
                    file.predictions[case.id] = failed
                advance(note=case.id)
                if (begun := time.perf_counter()) - last > pause:
                    _write(file, config, predictor)
                    last = time.perf_counter()
                    pause = max(_SECONDS_BETWEEN_WRITES, _WRITES_SHARE * (last - begun))
    except RuntimeError:
        require_working(predictor.device)
        raise
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


def _done(stations: Stations, cases: Sequence[InputCase], since: float | None) -> list[InputCase]:
    """Scans that have all that is asked for, unless the report of those who made it has been replaced by another.

    Args:
        stations: What is asked for.
        cases: The scans.
        since: Time from which what is there is of a run like this one, whatever its report tells of.
    """
    there = [case for case in cases if all(path.exists() for path in stations.files(case))]
    known = reported(stations.config.out)
    told = {one: {*record.outputs} for one, record in (known or {}).items()}

    def is_theirs(case: InputCase) -> bool:
        outputs = stations.record(case, "existing").outputs
        newest = since is not None and all(path.stat().st_mtime >= since for path in stations.files(case))
        return known is None or newest or told.get(case.id, set()).issuperset(outputs)

    done = [case for case in there if is_theirs(case)]
    if len(done) < len(there):
        scans = counted(len(there) - len(done), "scan has", "scans have")
        log.warning("%s labels that no report tells of: they are made anew", scans)
    return done


def _dicom_outputs(config: InferConfig, predictor: Predictor) -> DicomOutputs:
    algorithm = Algorithm(
        models=tuple(Model(name=one.name, version=one.version, sha256=one.sha256) for one in predictor.bundles),
        software=importlib.metadata.version("unetpipe"),
    )
    return dicom_outputs(config, predictor.spec.label_scheme, predictor.spec.segments, algorithm)


def _write(file: PredictionsFile, config: InferConfig, predictor: Predictor) -> None:
    file.write(
        models=models_used(predictor),
        versions={name: importlib.metadata.version(name) for name in ("unetpipe", "monai", predictor.engine)},
        device=predictor.device_name,
        settings=settings_used(config, predictor),
    )


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
