"""The held-out cases of a fold: validated between epochs, and predicted on their own grids at the end."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.planning.plan import Configuration
from unetpipe.dataset.store import CaseStore
from unetpipe.errors import TrainingError, UnetpipeError
from unetpipe.imaging.alignment import aligned
from unetpipe.imaging.files import write_labels
from unetpipe.imaging.geometry import orientation_to_ras
from unetpipe.imaging.labels import read_label_volume
from unetpipe.imaging.network_input import restore_labels
from unetpipe.imaging.resample import resample_logits_argmax
from unetpipe.inference.decoding import last_above_zero
from unetpipe.training.overlap import overlap_counts, predict_logits
from unetpipe.training.postprocessing import largest_component_gain

_Labels = NDArray[np.integer]


class HeldOut:
    """Predicts preprocessed cases with a network that is being trained.

    Attributes:
        selection: Cases of every other patient. They validate between epochs, and so may decide on the best weights
            and on the end of training.
        unseen: The other cases, which decide nothing.
    """

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
        self._decided = np.array(manifest.label_scheme.decoded_indices, dtype=np.int16)
        patients = {case.id: case.patient or case.id for case in manifest.cases}
        selecting = set(list(dict.fromkeys(patients[case] for case in ids))[::2])
        self.selection = [case for case in ids if patients[case] in selecting]
        self.unseen = [case for case in ids if patients[case] not in selecting]

    def measure(self, network: nn.Module) -> float:
        """Seconds that one case takes, on its own grid and read from disk."""
        before = time.monotonic()
        self._on_own_grid(network, self._ids[0])
        return time.monotonic() - before

    def sample(self, windows: float) -> list[str]:
        """Selection cases to validate with between epochs, spread evenly, as many as have so many windows.

        At least one, and always the same ones: what they decide must not depend on how fast a machine is.
        """
        patch = self._configuration.patch_size
        shapes = [self._store.record(case).placement.shape for case in self.selection]
        of_each = [math.prod(max(1, math.ceil(2 * n / p) - 1) for n, p in zip(s, patch, strict=True)) for s in shapes]
        count = max(1, min(len(shapes), int(windows / np.mean(of_each))))
        return [self.selection[index * len(shapes) // count] for index in range(count)]

    def count(self, network: nn.Module, case: str) -> NDArray[np.int64]:
        """Overlap of a case's prediction with its reference, on the network's grid, as `overlap_counts` has it."""
        data = self._store.load(case)
        return overlap_counts(self._predict(network, data), data[-1].astype(np.int16), self._manifest.label_scheme)

    def predict(self, network: nn.Module, case: str, folder: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Write a case's labels as the dataset has them, and compare them with the reference.

        Args:
            network: Trained.
            case: Its id.
            folder: For a ``.nii.gz`` (2-D: ``.png``), named by `Manifest.file_names`.

        Returns:
            `overlap_counts` on the case's own grid, and `largest_component_gain` of every class.
        """
        names = {label.value: label.name for label in self._manifest.labels}
        values = np.array([label.value for label in self._manifest.labels])
        suffix = ".nii.gz" if self._manifest.spatial_dims == 3 else ".png"
        indices = self._on_own_grid(network, case)
        source = self._store.record(case).placement.source
        write_labels(folder / f"{self._manifest.file_names[case]}{suffix}", values[indices], source, names)
        labels = orientation_to_ras(source).to_ras(indices)
        reference = self._reference(next(one for one in self._manifest.cases if one.id == case))
        counts = overlap_counts(labels, reference, self._manifest.label_scheme)
        return counts, largest_component_gain(labels, reference, len(self._manifest.labels))

    def example(self, network: nn.Module) -> tuple[NDArray[np.float32], _Labels, _Labels]:
        """First channel, prediction and reference of one case on the network's grid."""
        data = self._store.load(self._ids[0])
        return data[0].astype(np.float32), self._predict(network, data), data[-1].astype(np.int16)

    def _reference(self, case: Case) -> _Labels:
        """Class indices of a case's label file in RAS+ order; -1 for what is to be ignored."""
        assert case.label is not None
        image = self._store.record(case.id).placement.source
        try:  # a manifest that does not say whether the image's affine was adopted may mean that it was
            volume = aligned(read_label_volume(case.label), image, adopt_affine=case.affine_adopted is not False)
        except UnetpipeError as error:
            raise TrainingError(
                f"{case.id}: its label has changed since it was preprocessed ({error}): run unetpipe preprocess again"
            ) from error
        label = orientation_to_ras(image).to_ras(volume.array[0])
        indices = np.full(label.shape, -1, dtype=np.int16)
        for index, known in enumerate(self._manifest.labels):
            indices[label == known.value] = index
        return indices

    def _predict(self, network: nn.Module, data: NDArray[np.float16]) -> _Labels:
        image = torch.from_numpy(data[:-1])
        logits = predict_logits(network, image, self._configuration.patch_size, self._device, self._dtype)
        scheme = self._manifest.label_scheme
        labels = last_above_zero(logits) if scheme.overlapping else logits.argmax(0)
        return self._classes(labels.cpu().numpy())

    def _on_own_grid(self, network: nn.Module, case: str) -> _Labels:
        placement = self._store.record(case).placement
        image = torch.from_numpy(self._store.load(case)[:-1])
        logits = predict_logits(network, image, self._configuration.patch_size, self._device, self._dtype)
        cropped = tuple(stop - start for start, stop in zip(placement.start, placement.stop, strict=True))
        interpolation, overlapping = self._configuration.interpolation, self._manifest.label_scheme.overlapping
        labels = resample_logits_argmax(logits, cropped, interpolation, overlapping=overlapping)
        return self._classes(restore_labels(labels, placement))

    def _classes(self, decisions: _Labels) -> _Labels:
        indices: _Labels = self._decided[decisions]
        return indices
