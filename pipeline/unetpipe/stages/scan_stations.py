"""One scan on its way through `infer`: loaded, segmented and written, each at a station of its own."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import Literal, TypeVar, get_args

from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.segmentation import PreparedImage, Segmentation
from unetpipe.config.infer import DicomFormat, InferConfig
from unetpipe.errors import ImageFileError
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.image import read_image
from unetpipe.inference.dicom_outputs import DicomOutputs, Predicted
from unetpipe.inference.inputs import InputCase
from unetpipe.inference.outputs import OutputFolder
from unetpipe.inference.predictions import Prediction, Seconds, label_warnings, low_classes, volumes_ml
from unetpipe.networks.device import peak_process_memory_gb
from unetpipe.streaming import paired

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Loaded:
    """A scan on its way from the loader to the networks."""

    source: Grid
    images: tuple[PreparedImage, ...]
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Segmented:
    """A scan on its way from the networks to the writer."""

    loaded: Loaded
    segmentation: Segmentation
    seconds: float


class Stations:
    """The stations that a scan passes: each works on another scan at the same time.

    Args:
        config: Options of the command.
        predictor: Loaded models.
        objects: DICOM outputs that are asked for.
    """

    def __init__(self, config: InferConfig, predictor: Predictor, objects: DicomOutputs) -> None:
        self.config, self.predictor, self._objects = config, predictor, objects
        self._outputs = OutputFolder(config.out, predictor.spec.label_scheme, config.format)

    def files(self, case: InputCase) -> list[Path]:
        """The files and folders whose presence says that a scan is done: all that is asked for."""
        outputs, config = self._outputs, self.config
        asked = {
            outputs.labels_path: outputs.has_labels,
            outputs.probabilities_path: config.save_probabilities,
            outputs.entropy_path: config.save_uncertainty,
            outputs.classes_folder: config.save_classes,
        }
        return [*(path(case) for path, wanted in asked.items() if wanted), *self._objects.paths(case).values()]

    def remove(self, case: InputCase, earlier: Prediction | None) -> None:
        """Remove what an earlier run wrote of a scan, and what is asked for now; nothing that no run has written.

        Args:
            case: The scan.
            earlier: What a report says that an earlier run wrote of it.
        """
        written = set(self.files(case))
        if earlier is not None:
            written |= {*self._outputs.further_paths(case), *(self.config.out / name for name in earlier.outputs)}
            written |= {self.config.out / name / f"{case.file_name}.dcm" for name in get_args(DicomFormat)}
        scans = {os.path.realpath(path) for path in case.paths}
        for path in (path for path in written if os.path.realpath(path) not in scans):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)

    def record(self, case: InputCase, status: Literal["written", "existing"]) -> Prediction:
        """What is known of a scan that is done, whoever segmented it."""
        return Prediction(
            id=case.id,
            status=status,
            output=self._outputs.labels_path(case).name if self._outputs.has_labels else None,
            dicom_output={name: f"{name}/{path.name}" for name, path in self._objects.paths(case).items()},
            dicom=case.is_dicom,
        )

    def load(self, case: InputCase) -> Loaded:
        """Read and preprocess; in the loader's thread."""
        if case.fault:
            raise ImageFileError(case.fault)
        start = time.perf_counter()
        image = read_image(case.paths, case.dicom, adopt_affine=self.config.fix_affine)
        images = self.predictor.prepare(image)
        warnings = self.predictor.warnings(image, images)
        return Loaded(image.source, images, (*image.notes, *warnings), time.perf_counter() - start)

    def segment(self, scans: Iterator[tuple[InputCase, Loaded]], count: int) -> Iterator[Segmented | Exception]:
        """Run the networks, on windows of several scans at once; in the caller's thread.

        Args:
            scans: Scans that could be loaded.
            count: Number of scans, with those that could not.
        """
        first = list(islice(scans, 1))
        for _, loaded in first:
            self.predictor.settle_engine(loaded.images, count)
        config, clock = self.config, _Clock()

        def found(taken: Iterator[tuple[InputCase, Loaded]]) -> Iterator[Segmentation | Exception]:
            return self.predictor.segment_all(
                (loaded.images for _, loaded in clock.stopped(taken)),
                entropy=config.save_uncertainty,
                probabilities=config.save_probabilities or self._objects.needs_probabilities,
            )

        for (_, loaded), one in paired(chain(first, scans), found):
            seconds = clock.lap()
            yield one if isinstance(one, Exception) else Segmented(loaded, one, seconds)
            clock.lap()

    def save(self, case: InputCase, found: Segmented) -> Prediction:
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
            "peak_memory_mb": round(peak_process_memory_gb() * 2**10, 1),
            "volumes_ml": volumes,
            "agreement": round(fmean(agreement.values()), 4) if agreement else None,
            "class_agreement": {name: round(value, 4) for name, value in agreement.items()},
            "predicted_dice": {name: one.rounded() for name, one in predicted.items()},
            "flagged": low_classes(predicted, self.config.flag_below),
            "warnings": (*loaded.warnings, *notes, *label_warnings(labels, outputs.scheme)),
        }
        return self.record(case, "written").model_copy(update=known)


class _Clock:
    """Measures laps, without the time that is spent on waiting for scans."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self._start = self._start, time.perf_counter()
        return self._start - before

    def stopped(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """Hand on items, and do not count the time until they come."""
        while True:
            before = time.perf_counter()
            item = next(items, None)
            self._start += time.perf_counter() - before
            if item is None:
                return
            yield item
