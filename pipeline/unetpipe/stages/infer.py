"""Scans in, label maps out: load, segment and write at the same time, one scan at each station."""

import contextlib
import importlib.metadata
import logging
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.bundle.predictor import Predictor, Segmentation
from unetpipe.config import InferConfig
from unetpipe.dataset.training_domain import domain_check
from unetpipe.documents import Record
from unetpipe.errors import UnetpipeError
from unetpipe.extensions import load_extensions
from unetpipe.files import atomic_path
from unetpipe.imaging.dicom.options import dicom_choices
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.image import read_image
from unetpipe.imaging.network_input import NetworkImage
from unetpipe.inference.ensemble import is_out_of_memory
from unetpipe.inference.inputs import InputCase, find_inputs, read_list, shard_of
from unetpipe.inference.predictions import (
    ModelUsed,
    Prediction,
    Predictions,
    Seconds,
    label_warnings,
    read_predictions,
    volumes_ml,
    write_predictions,
)
from unetpipe.progress import Progress, SilentProgress
from unetpipe.streaming import stream

log = logging.getLogger(__name__)

_OWN_FORMAT = (".mha", ".nrrd", ".png", ".tif", ".tiff", ".nii")
_SECONDS_BETWEEN_MANIFESTS = 10.0


class InferResult(Record):
    """What `infer` did.

    Attributes:
        written: Scans segmented now.
        skipped: Scans whose labels were there already.
        seconds: Wall time from the first scan's loading to the last one's writing.
        out: Folder of the labels.
        predictions: What became of each scan, as a file.
        warnings: What to look at, by scan.
        failed: Why there are no labels, by scan.
    """

    written: int
    skipped: int
    seconds: float
    out: Path
    predictions: Path
    warnings: dict[str, tuple[str, ...]]
    failed: dict[str, str]


def infer(
    config: InferConfig,
    progress: Progress = SilentProgress(),  # noqa: B008 - it has no state
) -> InferResult:
    """Segment scans and write labels on their own grids, one file per scan, each either whole or not there.

    A scan that cannot be read, segmented or written is listed in the result; the others go on.

    Raises:
        ExtensionError: If an extension is not there or fails while it is imported.
        BundleError: If a model cannot be used.
        DatasetError: If an input does not exist or holds no scan.
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
    dicom = dicom_choices(config.series, config.phase, fix_geometry=config.fix_geometry)
    inputs = [*config.inputs, *(read_list(config.list) if config.list else [])]
    with tempfile.TemporaryDirectory(prefix="unetpipe-") as scratch:
        channels = len(predictor.spec.channels)
        cases = find_inputs(inputs, channels, patterns=config.images, dicom=dicom, scratch=Path(scratch))
        return _infer(config, predictor, shard_of(cases, config.shard) if config.shard else cases, progress)


def _infer(config: InferConfig, predictor: Predictor, cases: Sequence[InputCase], progress: Progress) -> InferResult:
    run = _Run(config, predictor)
    done = [case for case in cases if config.skip_existing and run.labels_path(case).is_file()]
    run.keep(done)
    skipped = {case.id for case in done}
    started = last = time.perf_counter()
    waiting = [case for case in cases if case.id not in skipped]
    outcomes = stream(waiting, run.load, run.segment, run.save)
    try:
        with contextlib.closing(outcomes), progress.task("infer", len(waiting)) as advance:
            for outcome in outcomes:
                case = outcome.item
                if outcome.error is not None:
                    reason = _in_words(outcome.error, case)
                    log.warning("%s: failed: %s", case.id, reason)
                    run.predictions[case.id] = Prediction(
                        id=case.id, status="failed", dicom=case.is_dicom, error=reason
                    )
                elif outcome.value is not None:
                    run.predictions[case.id] = outcome.value
                advance(note=case.id)
                if time.perf_counter() - last > _SECONDS_BETWEEN_MANIFESTS:
                    run.write_manifest()
                    last = time.perf_counter()
    finally:
        run.write_manifest()
    records = [run.predictions[case.id] for case in cases]
    return InferResult(
        written=sum(record.status == "written" for record in records),
        skipped=len(done),
        seconds=round(time.perf_counter() - started, 3),
        out=config.out,
        predictions=run.manifest_path,
        warnings={record.id: record.warnings for record in records if record.warnings},
        failed={record.id: record.error or "" for record in records if record.status == "failed"},
    )


@dataclass(frozen=True)
class _Loaded:
    grid: Grid
    prepared: tuple[NetworkImage, ...]
    warnings: list[str]
    seconds: float


@dataclass(frozen=True)
class _Segmented:
    loaded_seconds: float
    grid: Grid
    warnings: list[str]
    segmentation: Segmentation
    seconds: float


class _Run:
    """The three stations of one call of `infer`, and what they have to say about each scan."""

    def __init__(self, config: InferConfig, predictor: Predictor) -> None:
        self._config = config
        self._predictor = predictor
        self.predictions: dict[str, Prediction] = {}
        part = "" if config.shard is None else "-" + config.shard.replace("/", "-of-")
        self.manifest_path = config.out / f"predictions{part}.json"

    def labels_path(self, case: InputCase) -> Path:
        """Where labels go: in the scan's own format where that can hold them, else as NIfTI."""
        return self._config.out / f"{case.file_name}{_suffix(case)}"

    def keep(self, cases: list[InputCase]) -> None:
        """Take over what an earlier run said about scans that are left as they are."""
        earlier = read_predictions(self.manifest_path)
        known = {} if earlier is None else {record.id: record for record in earlier.cases}
        for case in cases:
            output = self.labels_path(case).name
            plain = Prediction(id=case.id, status="existing", output=output, dicom=case.is_dicom)
            self.predictions[case.id] = known.get(case.id, plain).model_copy(
                update={"status": "existing", "error": None}
            )

    def load(self, case: InputCase) -> _Loaded:
        """Read and preprocess; in the loader's thread."""
        start = time.perf_counter()
        spec = self._predictor.spec
        image = read_image(case.paths, case.dicom, adopt_affine=self._config.fix_affine)
        prepared = self._predictor.prepare(image)
        warnings = domain_check(image, prepared[0].placement, spec.preprocessing, spec.training_domain)
        return _Loaded(image.source, prepared, [*image.notes, *warnings], time.perf_counter() - start)

    def segment(self, _case: InputCase, loaded: _Loaded) -> _Segmented:
        """Run the networks; in the caller's thread."""
        start = time.perf_counter()
        segmentation = self._predictor.segment(
            loaded.prepared, entropy=self._config.save_uncertainty, probabilities=self._config.save_probabilities
        )
        return _Segmented(loaded.seconds, loaded.grid, loaded.warnings, segmentation, time.perf_counter() - start)

    def save(self, case: InputCase, found: _Segmented) -> Prediction:
        """Write everything, the labels last: where they are, all is; in the writer's thread."""
        start = time.perf_counter()
        path, grid, labels = self.labels_path(case), found.grid, found.segmentation.labels
        names, background = self._predictor.names, self._predictor.spec.labels[0].value
        agreement = found.segmentation.agreement
        if found.segmentation.probabilities is not None:
            self._save_probabilities(case, found.segmentation.probabilities, grid)
        if found.segmentation.entropy is not None:
            suffix = _suffix(case)
            suffix = ".nii.gz" if suffix in (".png", ".tif", ".tiff") else suffix
            write_image(
                path.parent / "uncertainty" / f"{case.file_name}{suffix}", found.segmentation.entropy[None], grid
            )
        if self._config.save_classes:
            self._save_classes(case, labels, grid)
        write_labels(path, labels, grid, names)
        return Prediction(
            id=case.id,
            status="written",
            output=path.name,
            dicom=case.is_dicom,
            seconds=Seconds(
                load=round(found.loaded_seconds, 3),
                predict=round(found.seconds, 3),
                write=round(time.perf_counter() - start, 3),
            ),
            peak_memory_mb=_peak_memory_mb(),
            volumes_ml=self._volumes_ml(labels, grid),
            agreement=round(fmean(agreement.values()), 4) if agreement else None,
            class_agreement={name: round(value, 4) for name, value in agreement.items()},
            warnings=tuple(found.warnings + label_warnings(labels, names, background)),
        )

    def _volumes_ml(self, labels: NDArray[Any], grid: Grid) -> dict[str, float]:
        """Of each class, or of each region the sum of what belongs to it."""
        names, scheme = self._predictor.names, self._predictor.spec.label_scheme
        of_value = volumes_ml(labels, grid, names, scheme.labels[0].value)
        found = zip(scheme.names, scheme.values, strict=True)
        return {name: sum(of_value[names[value]] for value in values) for name, values in found}

    def _save_probabilities(self, case: InputCase, probabilities: NDArray[np.float16], grid: Grid) -> None:
        spec = self._predictor.spec
        values = np.array([one.written for one in spec.regions] or [one.value for one in spec.labels])
        with atomic_path(self._config.out / "probabilities" / f"{case.file_name}.npz") as temporary:
            np.savez(temporary, probabilities=probabilities, values=values, affine=grid.matrix)

    def _save_classes(self, case: InputCase, labels: NDArray[Any], grid: Grid) -> None:
        """One mask per class or region that was found; an earlier run's are removed."""
        folder = self._config.out / "classes" / case.file_name
        shutil.rmtree(folder, ignore_errors=True)
        suffix = _suffix(case)
        scheme = self._predictor.spec.label_scheme
        for name, written, values in zip(scheme.names, scheme.written_values, scheme.values, strict=True):
            mask = np.isin(labels, values)
            if mask.any():
                write_labels(folder / f"{_file_name(name, written)}{suffix}", mask.astype(np.uint8), grid, {1: name})

    def write_manifest(self) -> None:
        """Write predictions.json as far as it is known."""
        config, predictor = self._config, self._predictor
        write_predictions(
            self.manifest_path,
            Predictions(
                models=tuple(
                    ModelUsed(name=b.name, version=b.version, sha256=b.sha256, tracking_run=b.spec.tracking_run)
                    for b in predictor.bundles
                ),
                versions={name: importlib.metadata.version(name) for name in ("unetpipe", "monai", config.engine)},
                device=predictor.device_name,
                settings={
                    "precision": str(predictor.dtype).removeprefix("torch."),
                    "engine": config.engine,
                    **({} if predictor.differs is None else {"differs_from_float32": round(predictor.differs, 6)}),
                    "step": config.step,
                    "tta": config.tta,
                    "postprocess": config.postprocess,
                },
                cases=tuple(sorted(self.predictions.values(), key=lambda record: record.id)),
            ),
        )


def _file_name(name: str, value: int) -> str:
    """A class's name as a file's, its value in front so that no two are the same: ``3_left_kidney``."""
    return f"{value}_{re.sub(r'[^A-Za-z0-9+-]+', '_', name).strip('_')}"


def _suffix(case: InputCase) -> str:
    name = case.paths[0].name.lower()
    if case.paths[0].is_dir():
        return ".nii.gz"
    if name.endswith((".jpg", ".jpeg")):
        return ".png"
    return next((suffix for suffix in _OWN_FORMAT if name.endswith(suffix)), ".nii.gz")


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)  # bytes there, KiB here


def _in_words(error: Exception, case: InputCase) -> str:
    """One line without the folders of the case's files."""
    if is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = (str(error).splitlines() or [""])[0]
    for path in case.paths:
        text = text.replace(f"{path.parent}/", "")
    return text if isinstance(error, UnetpipeError) else f"{type(error).__name__}: {text}"
