"""What every candidate predicts for the cases that its folds held out, as each would be deployed."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.segmentation import PreparedImage
from unetpipe.choice.candidates import Candidate, TrainedRun
from unetpipe.dataset.folds import Fold
from unetpipe.dataset.manifest import Manifest
from unetpipe.imaging.geometry import Grid
from unetpipe.inference.decoding import label_scan
from unetpipe.metrics.overlap import Overlap
from unetpipe.progress import Advance, Progress
from unetpipe.streaming import stream
from unetpipe.training.case_files import CaseFiles
from unetpipe.training.postprocessing import largest_component_gain


@dataclass(frozen=True)
class HeldOutCase:
    """One candidate's labels of one case, without post-processing.

    Attributes:
        id: Id of the case.
        fold: Number of the fold that held it out.
        source: Grid of the case's first image.
        overlaps: One overlap with the reference for each of the label scheme's names.
        gains: `largest_component_gain` of every class.
        seconds: Time that the networks took.
    """

    id: str
    fold: int
    source: Grid
    overlaps: tuple[Overlap, ...]
    gains: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class _Scan:
    source: Grid
    images: dict[str, tuple[PreparedImage, ...]]


@dataclass(frozen=True)
class _Labelled:
    scan: _Scan
    labels: dict[str, Tensor]
    seconds: dict[str, float]


def dice_table(cases: Sequence[HeldOutCase]) -> NDArray[np.float64]:
    """Dice of each case and name, shape (cases, names); NaN where neither reference nor labels hold it."""
    return np.array([[overlap.dice for overlap in case.overlaps] for case in cases], dtype=float)


class HeldOutPredictions:
    """Predicts the held-out cases of all folds, each run once, and writes the labels of every candidate.

    Args:
        runs: The runs that candidates are made of.
        candidates: Models to predict with.
        manifest: Manifest of the dataset.
        out: Folder that gets a folder of label files for each candidate.
    """

    def __init__(
        self, runs: Sequence[TrainedRun], candidates: Sequence[Candidate], manifest: Manifest, out: Path
    ) -> None:
        self._runs, self._candidates, self._manifest, self._out = runs, candidates, manifest, out
        self._files = CaseFiles(manifest)
        self._scheme = manifest.label_scheme

    def predict(self, folds: Sequence[Fold], progress: Progress) -> dict[str, list[HeldOutCase]]:
        """Predict every case by the networks that have not learned from it.

        Returns:
            Cases by the candidate's name.

        Raises:
            TrainingError: If a case's files cannot be read, or have changed since it was preprocessed.
        """
        found: dict[str, list[HeldOutCase]] = {candidate.name: [] for candidate in self._candidates}
        with progress.task("held-out cases", sum(len(fold.validation) for fold in folds)) as advance:
            for number, fold in enumerate(folds):
                for case in self._predict_fold(number, fold, advance):
                    for name, result in case.items():
                        found[name].append(result)
        return found

    def _predict_fold(self, number: int, fold: Fold, advance: Advance) -> list[dict[str, HeldOutCase]]:
        predictors = {run.name: Predictor(run.folds[number], postprocess=False) for run in self._runs}

        def load(case: str) -> _Scan:
            image = self._files.image(case)
            return _Scan(image.source, {name: predictor.prepare(image) for name, predictor in predictors.items()})

        def work(_case: str, scan: _Scan) -> _Labelled:
            return self._label(predictors, scan)

        def save(case: str, labelled: _Labelled) -> dict[str, HeldOutCase]:
            return self._compare(case, number, labelled)

        cases = []
        with closing(stream(fold.validation, load, work, save)) as outcomes:
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                assert outcome.value is not None
                cases.append(outcome.value)
                advance(note=outcome.item)
        return cases

    def _label(self, predictors: dict[str, Predictor], scan: _Scan) -> _Labelled:
        """Run every network once; candidates average what they need."""
        logits, seconds = {}, {}
        for name, predictor in predictors.items():
            started = time.monotonic()
            logits[name] = predictor.scan_logits(scan.images[name])
            seconds[name] = time.monotonic() - started
        labels = {}
        for candidate in self._candidates:
            names = [run.name for run in candidate.runs]
            out = scan.images[names[0]][0].decision_shape
            labels[candidate.name] = label_scan([logits[name] for name in names], out, self._scheme).labels
        taken = {one.name: sum(seconds[run.name] for run in one.runs) for one in self._candidates}
        return _Labelled(scan, labels, taken)

    def _compare(self, case: str, fold: int, labelled: _Labelled) -> dict[str, HeldOutCase]:
        """Write the labels, and compare them with the reference."""
        source = labelled.scan.source
        reference = self._files.reference(case, source)
        found = {}
        for candidate in self._candidates:
            name = candidate.name
            indices = labelled.scan.images[candidate.runs[0].name][0].restore(labelled.labels[name])
            self._files.write(case, indices, source, self._out / name)
            gains = largest_component_gain(indices, reference, len(self._scheme.labels))
            found[name] = HeldOutCase(
                id=case,
                fold=fold,
                source=source,
                overlaps=self._files.overlaps(reference, indices),
                gains=tuple(gains.tolist()),
                seconds=labelled.seconds[name],
            )
        return found
