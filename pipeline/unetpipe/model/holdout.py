"""The held-out cases of a fold: a quick look between epochs, and their labels on their own grids at the end."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unetpipe.dataset.checks import TOLERANCE_MM
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.plan import Configuration
from unetpipe.dataset.store import CaseStore
from unetpipe.errors import TrainingError
from unetpipe.imaging.files import read_volume, write_labels
from unetpipe.imaging.geometry import orientation_to_ras
from unetpipe.imaging.resample import resample_logits_argmax
from unetpipe.imaging.transforms import restore_labels
from unetpipe.model.validate import mean_dice, overlap_counts, predict_logits
from unetpipe.progress import Advance

_Labels = NDArray[np.integer]


class HeldOut:
    """Predicts preprocessed cases with a network that is being trained."""

    def __init__(
        self,
        store: CaseStore,
        ids: Sequence[str],
        manifest: Manifest,
        configuration: Configuration,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Nothing is read yet."""
        self._store, self._ids, self._manifest, self._configuration = store, ids, manifest, configuration
        self._device, self._dtype = device, dtype
        self._seconds_per_case: float | None = None

    def measure(self, network: nn.Module) -> float:
        """Seconds that one case takes, on its own grid and read from disk."""
        before = time.monotonic()
        self._on_own_grid(network, self._ids[0])
        return time.monotonic() - before

    def dice(self, network: nn.Module, at_most_seconds: float) -> list[float | None]:
        """Mean Dice per foreground class on the network's grid, over as many cases as the time allows, at least one.

        Cases are spread evenly over the fold, and the same ones as long as the time allows as many.
        """
        if self._seconds_per_case is None:
            before = time.monotonic()
            self._count(network, self._ids[0])
            self._seconds_per_case = time.monotonic() - before
        count = max(1, min(len(self._ids), int(at_most_seconds / self._seconds_per_case)))
        chosen = [self._ids[index * len(self._ids) // count] for index in range(count)]
        before = time.monotonic()
        counts = [self._count(network, case) for case in chosen]
        self._seconds_per_case = (time.monotonic() - before) / count
        return mean_dice(counts)

    def predict_all(self, network: nn.Module, folder: Path, advance: Advance) -> dict[str, float | None]:
        """Write every case's labels as the dataset has them, and return the mean Dice of each foreground class.

        Args:
            network: Trained.
            folder: For ``<case>.nii.gz`` (2-D: ``<case>.png``).
            advance: Told after each case.
        """
        cases = {case.id: case for case in self._manifest.cases}
        names = {label.value: label.name for label in self._manifest.labels}
        values = np.array([label.value for label in self._manifest.labels])
        suffix = ".nii.gz" if self._manifest.spatial_dims == 3 else ".png"
        counts = []
        for case in self._ids:
            indices = self._on_own_grid(network, case)
            write_labels(folder / f"{case}{suffix}", values[indices], self._store.record(case).placement.source, names)
            orientation = orientation_to_ras(self._store.record(case).placement.source)
            counts.append(overlap_counts(orientation.to_ras(indices), self._reference(cases[case]), len(values)))
            advance()
        return dict(zip((label.name for label in self._manifest.labels[1:]), mean_dice(counts), strict=True))

    def example(self, network: nn.Module) -> tuple[NDArray[np.float32], _Labels, _Labels]:
        """First channel, prediction and reference of one case on the network's grid."""
        data = self._store.load(self._ids[0])
        return data[0].astype(np.float32), self._predict(network, data), data[-1].astype(np.int16)

    def _reference(self, case: Case) -> _Labels:
        """Class indices of a case's label file in RAS+ order; -1 for what is to be ignored."""
        assert case.label is not None
        volume = read_volume(case.label)
        image = self._store.record(case.id).placement.source
        # a label may have other axes than its image, or none that mean anything where the image's were adopted
        own = volume.grid.canonical().difference_mm(image.canonical()) <= TOLERANCE_MM
        label = orientation_to_ras(volume.grid if own else image).to_ras(volume.array[0])
        if label.shape != image.canonical().shape:
            raise TrainingError(f"{case.id}: its label has changed since it was preprocessed: run unetpipe preprocess")
        indices = np.full(label.shape, -1, dtype=np.int16)
        for index, known in enumerate(self._manifest.labels):
            indices[label == known.value] = index
        return indices

    def _predict(self, network: nn.Module, data: NDArray[np.float16]) -> _Labels:
        image = torch.from_numpy(data[:-1])
        logits = predict_logits(network, image, self._configuration.patch_size, self._device, self._dtype)
        labels: _Labels = logits.argmax(0).to(torch.int16).cpu().numpy()
        return labels

    def _count(self, network: nn.Module, case: str) -> NDArray[np.int64]:
        data = self._store.load(case)
        return overlap_counts(self._predict(network, data), data[-1].astype(np.int16), len(self._manifest.labels))

    def _on_own_grid(self, network: nn.Module, case: str) -> _Labels:
        placement = self._store.record(case).placement
        image = torch.from_numpy(self._store.load(case)[:-1])
        logits = predict_logits(network, image, self._configuration.patch_size, self._device, self._dtype)
        cropped = tuple(stop - start for start, stop in zip(placement.start, placement.stop, strict=True))
        return restore_labels(resample_logits_argmax(logits, cropped, self._configuration.interpolation), placement)
