"""The held-out cases of a fold: validated between epochs, and segmented from their files at the end.

Both use the code that `infer` runs: the same windows, the same decision from logits to classes, and at the end the same
preprocessing of a file and the same way back to its grid. So the reported Dice is that of the bundle that ships.
"""

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unetpipe.dataset.training_set import TrainingSet
from unetpipe.errors import TrainingError, UnetpipeError
from unetpipe.imaging.geometry import Grid, Shape
from unetpipe.imaging.network_input import NetworkImage, network_image
from unetpipe.inference.cascade import label_channels
from unetpipe.inference.confidence import Confidence
from unetpipe.inference.decoding import GroupLogits, label_scan
from unetpipe.inference.ensemble import Ensemble, for_inference
from unetpipe.inference.group import NetworkGroup
from unetpipe.inference.sliding_window import STEP, Windows
from unetpipe.metrics.overlap import Overlap
from unetpipe.streaming import paired
from unetpipe.training.case_files import CaseFiles, Labels
from unetpipe.training.postprocessing import largest_component_gain
from unetpipe.training.recorder import Example

_LONG_READING = 2.0  # seconds, after which a case is not read again to time it


class CaseResult(NamedTuple):
    """One held-out case, in values that ranks can send each other.

    Attributes:
        overlaps: One overlap with the reference for each of the label scheme's names.
        gains: `largest_component_gain` of every class.
        expected: Dice that the network expects of each of the names; None where it found nothing.
    """

    overlaps: Sequence[Overlap]
    gains: Sequence[float]
    expected: Mapping[str, float | None]


def overlaps_of(cases: Iterable[Iterable[Sequence[int]]]) -> list[list[Overlap]]:
    """Overlaps of each case, which other ranks send as plain lists."""
    return [[Overlap(*counts) for counts in case] for case in cases]


class _Segmented(NamedTuple):
    """Labels of a case on the grid of its files, and the Dice that the network expects of each structure."""

    case: str
    labels: Labels
    grid: Grid
    expected: Mapping[str, float | None]


class HeldOut:
    """Segments held-out cases with a network that is being trained.

    Attributes:
        selection: Cases of every other patient. They validate between epochs, and so may decide on the best weights,
            on the end of training and on post-processing.
        unseen: The other cases, which decide nothing.
    """

    def __init__(self, data: TrainingSet, device: torch.device, dtype: torch.dtype) -> None:
        """Start without reading anything yet."""
        self._data, self._store, self._configuration = data, data.store, data.configuration
        self._ids, manifest = data.validation, data.manifest
        self._device, self._dtype = device, dtype
        self._scheme = manifest.label_scheme
        self._files = CaseFiles(manifest)
        self._patients = patients = {case.id: case.patient or case.id for case in manifest.cases}
        selecting = set(list(dict.fromkeys(patients[case] for case in self._ids))[::2])
        self.selection = [case for case in self._ids if patients[case] in selecting]
        self.unseen = [case for case in self._ids if patients[case] not in selecting]

    def patients(self, ids: Sequence[str]) -> tuple[int, ...]:
        """Number of each case's patient, in order of first appearance."""
        numbers: dict[str, int] = {}
        return tuple(numbers.setdefault(self._patients[case], len(numbers)) for case in ids)

    def case_seconds(self) -> float:
        """Seconds that a case of middle size takes from its file to labels on its own grid, without the network.

        What only a first case pays for, such as imports, is left out where that does not take long to find out.
        """
        blank = self._group(_Blank(self._scheme.count))
        middle = sorted(self._ids, key=self._windows(self._ids).__getitem__)[len(self._ids) // 2]
        times: list[float] = []
        while len(times) < 2 and sum(times) < _LONG_READING:
            before = time.monotonic()
            (found,) = self._on_own_grids(blank, [middle])
            self._files.overlaps(self._files.reference(middle, found.grid), found.labels)
            times.append(time.monotonic() - before)
        return min(times)

    def window_seconds(self, network: nn.Module) -> float:
        """Seconds that a network takes for a window, one of a batch of them."""
        group, times = self._group(network), list[float]()
        windows = torch.randn(group.inferer.batch, self._data.input_channels, *self._configuration.patch_size)
        for _ in range(2):  # the first one warms up
            before = time.monotonic()
            group.ensemble(windows).sum().item()  # waits for the device
            times.append(time.monotonic() - before)
        return times[-1] / len(windows)

    def mean_windows(self, patch: Shape) -> float:
        """Number of windows of a case, on the mean, with a patch of this shape."""
        return fmean(self._windows(self._ids, patch).values())

    def to_predict(self, count: int, seed: int) -> list[str]:
        """Cases to predict at the end: so many of them, drawn by the seed, selection cases and others in turn."""
        if count >= len(self._ids):
            return list(self._ids)
        draw = random.Random(seed)
        parts = [draw.sample(part, len(part)) for part in (self.unseen, self.selection)]
        turns = [case for pair in zip_longest(*parts) for case in pair if case is not None]
        chosen = set(turns[:count])
        return [case for case in self._ids if case in chosen]

    def sample(self, windows: float) -> list[str]:
        """Selection cases to validate with between epochs, spread evenly, as many as have so many windows.

        At least one, and always the same ones: what they decide must not depend on how fast a machine is. Cases without
        any class, of which nothing can be found, only where all are such.
        """
        cases = [case for case in self.selection if self.holds_a_class(case)] or self.selection
        count = max(1, min(len(cases), int(windows / fmean(self._windows(cases).values()))))
        return [cases[index * len(cases) // count] for index in range(count)]

    def holds_a_class(self, case: str) -> bool:
        """Whether a preprocessed case holds a class other than the background."""
        return any(self._store.record(case).class_voxels[1:])

    def count(self, network: nn.Module, case: str) -> tuple[Overlap, ...]:
        """Overlap of a preprocessed case's prediction with its reference, on the network's grid.

        Args:
            network: Put into evaluation mode.
            case: Case id.

        Returns:
            One overlap for each of the label scheme's names.
        """
        data = self._store.load(case)
        return self._files.overlaps(data[-1].astype(np.int16), self._on_network_grid(network, case, data))

    def example(self, network: nn.Module) -> Example:
        """One case on the network's grid."""
        case = next(filter(self.holds_a_class, self._ids), self._ids[0])
        data = self._store.load(case)
        return Example(
            image=data[0].astype(np.float32),
            prediction=self._on_network_grid(network, case, data),
            reference=data[-1].astype(np.int16),
            spacing_mm=self._store.record(case).spacing_mm,
            is_ras=self._data.preprocessing.turns_axes,
        )

    def predictions(self, network: nn.Module, cases: Iterable[str], folder: Path) -> Iterator[CaseResult]:
        """Segment cases from their files as `infer` does, write their labels, and compare them with the references.

        Windows of cases that follow each other share batches.

        Args:
            network: The one that is deployed. It is made ready for inference, and is not to be trained on.
            cases: Case ids.
            folder: Folder for a ``.nii.gz`` (2-D: ``.png``) of each, named by `Manifest.file_names`.

        Yields:
            The result of each case, in their order.

        Raises:
            TrainingError: If a case's files cannot be read, or are not those that were preprocessed.
        """
        group = self._group(for_inference(network, self._device, self._dtype))
        for one in self._on_own_grids(group, cases):
            reference = self._files.reference(one.case, one.grid)
            self._files.write(one.case, one.labels, one.grid, folder)
            yield CaseResult(
                self._files.overlaps(reference, one.labels),
                largest_component_gain(one.labels, reference, len(self._scheme.labels)).tolist(),
                one.expected,
            )

    def reduce(self, case: str, classes: Sequence[int], folder: Path) -> tuple[Overlap, ...]:
        """Keep only the largest component of some classes in the labels that `predictions` wrote, and compare anew.

        Args:
            case: Case id.
            classes: Class indices.
            folder: Folder that `predictions` wrote into.
        """
        source, indices = self._store.record(case).placement.source, self._files.reduced(case, classes, folder)
        self._files.write(case, indices, source, folder)
        return self._files.overlaps(self._files.reference(case, source), indices)

    def _windows(self, cases: Sequence[str], patch: Shape | None = None) -> dict[str, int]:
        """Number of windows that lie half a patch apart over each case."""
        patch = patch or self._configuration.patch_size
        shapes = {case: self._store.record(case).placement.shape for case in cases}
        return {case: Windows.over(shape, patch, STEP).count for case, shape in shapes.items()}

    def _group(self, network: nn.Module) -> NetworkGroup:
        ensemble = Ensemble([network.eval()], device=self._device, dtype=self._dtype)
        return NetworkGroup.of(self._data.preprocessing, ensemble, self._configuration.patch_size)

    def _decided(self, logits: GroupLogits, out: Shape, confidence: Confidence | None = None) -> Tensor:
        with torch.inference_mode():
            return label_scan([logits], out, self._scheme, confidence=confidence).labels

    def _on_network_grid(self, network: nn.Module, case: str, data: NDArray[np.float16]) -> Labels:
        """Class indices of a stored case."""
        image = self._with_first_stage(case, torch.from_numpy(data[:-1]))
        return self._decided(self._group(network).logits(image), tuple(image.shape[1:])).numpy()

    def _on_own_grids(self, group: NetworkGroup, cases: Iterable[str]) -> Iterator[_Segmented]:
        """Segment cases on the grids of their files."""

        def logits(images: Iterator[tuple[str, NetworkImage]]) -> Iterator[GroupLogits]:
            return group.logits_of(
                (self._with_first_stage(case, one.values), one.interpolation) for case, one in images
            )

        for (case, image), found in paired(((case, self._read(case)) for case in cases), logits):
            confidence = Confidence(self._scheme)
            labels = image.restore(self._decided(found, image.decision_shape, confidence))
            yield _Segmented(case, labels, image.placement.source, confidence.expected_dice())

    def _with_first_stage(self, case: str, image: Tensor) -> Tensor:
        """The image with the labels of a cascade's first stage, if there is one, as further channels."""
        if self._data.first_stage is None:
            return image
        labels = torch.from_numpy(self._data.first_stage.load(case))
        return torch.cat([image, label_channels(labels, len(self._scheme.labels), labels.ndim - 1).to(image.dtype)])

    def _read(self, case: str) -> NetworkImage:
        """Read a case's files anew, and preprocess them."""
        read = self._files.image(case)
        try:
            image = network_image(read, self._data.preprocessing)
        except UnetpipeError as error:
            raise TrainingError(f"{case}: its image cannot be preprocessed again: {error}") from error
        stored = self._store.record(case).placement
        if (image.placement.box, image.placement.shape) != (stored.box, stored.shape):
            raise TrainingError(
                f"{case}: its image has changed since it was preprocessed: run unetpipe preprocess again"
            )
        return image


class _Blank(nn.Module):
    """A network that takes no time and finds nothing."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self._outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, ...) to logits (B, L, ...) of 0."""
        return x.new_zeros(len(x), self._outputs, *x.shape[2:])
