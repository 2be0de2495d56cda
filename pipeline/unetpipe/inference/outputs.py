"""The files that `infer` writes for each scan, each either whole or not there."""

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.config.infer import OutputFormat
from unetpipe.dataset.label_scheme import LabelScheme
from unetpipe.files import atomic_path
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.inference.inputs import InputCase

_LABEL_FORMATS = (".mha", ".nrrd", ".png", ".tif", ".tiff", ".nii")
_INTEGERS_ONLY = (".png", ".tif", ".tiff")


@dataclass(frozen=True)
class OutputFolder:
    """The folder and the file names of outputs.

    Attributes:
        folder: Folder for the labels; everything else has a folder of its own in it.
        scheme: Classes and regions of the model.
        formats: Formats that a person asked for. Without any, label maps are in the scan's own format where that can
            hold them, else NIfTI.
    """

    folder: Path
    scheme: LabelScheme
    formats: tuple[OutputFormat, ...] = ()

    @property
    def has_labels(self) -> bool:
        """Whether label maps are written."""
        return not self.formats or "nifti" in self.formats

    def labels_path(self, case: InputCase) -> Path:
        """The file of a scan's labels."""
        return self.folder / f"{case.file_name}{self._suffix(case)}"

    def write_labels(self, case: InputCase, labels: NDArray[Any], grid: Grid) -> Path:
        """Write label values (*spatial), and return their file."""
        path = self.labels_path(case)
        write_labels(path, labels, grid, self.scheme.names_by_value)
        return path

    def entropy_path(self, case: InputCase) -> Path:
        """The file of a scan's entropy."""
        suffix = self._suffix(case)
        return self.folder / "uncertainty" / f"{case.file_name}{'.nii.gz' if suffix in _INTEGERS_ONLY else suffix}"

    def write_entropy(self, case: InputCase, entropy: NDArray[np.float32], grid: Grid) -> None:
        """Write ``uncertainty/CASE``: entropy (*spatial) as an image."""
        write_image(self.entropy_path(case), entropy[None], grid)

    def probabilities_path(self, case: InputCase) -> Path:
        """The file of a scan's probabilities."""
        return self.folder / "probabilities" / f"{case.file_name}.npz"

    def write_probabilities(self, case: InputCase, probabilities: NDArray[np.float16], grid: Grid) -> None:
        """Write ``probabilities/CASE.npz``: probabilities (L, *spatial), the label value of each, and the affine."""
        with atomic_path(self.probabilities_path(case)) as temporary:
            values = np.array(self.scheme.output_values)
            np.savez(temporary, probabilities=probabilities, values=values, affine=grid.matrix)

    def further_paths(self, case: InputCase) -> set[Path]:
        """What may be written of a scan beside its labels, in the scan's own format or NIfTI."""
        entropy = {replace(self, formats=formats).entropy_path(case) for formats in ((), ("nifti",))}
        return {*entropy, self.probabilities_path(case), self.classes_folder(case)}

    def classes_folder(self, case: InputCase) -> Path:
        """The folder of a scan's masks."""
        return self.folder / "classes" / case.file_name

    def write_classes(self, case: InputCase, labels: NDArray[Any], grid: Grid) -> None:
        """Write ``classes/CASE/VALUE_NAME``, a mask of each class or region that was found; remove earlier ones."""
        folder, suffix, scheme = self.classes_folder(case), self._suffix(case), self.scheme
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, written, values in zip(scheme.names, scheme.written_values, scheme.values, strict=True):
            mask = np.isin(labels, values)
            if mask.any():
                write_labels(folder / f"{_class_name(name, written)}{suffix}", mask.astype(np.uint8), grid, {1: name})

    def _suffix(self, case: InputCase) -> str:
        return ".nii.gz" if self.formats else _own_suffix(case)


def _own_suffix(case: InputCase) -> str:
    """The suffix of labels in a scan's own format."""
    name = case.paths[0].name.lower()
    if case.paths[0].is_dir():
        return ".nii.gz"
    if name.endswith((".jpg", ".jpeg")):
        return ".png"
    return next((suffix for suffix in _LABEL_FORMATS if name.endswith(suffix)), ".nii.gz")


def _class_name(name: str, value: int) -> str:
    """A class's name as a file's, its value in front so that no two are the same: ``3_left_kidney``."""
    return f"{value}_{re.sub(r'[^A-Za-z0-9+-]+', '_', name).strip('_')}"
