"""The files of a dataset's cases, read anew after preprocessing, and the labels that networks predict for them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetpipe.dataset.case_label import read_case_label
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.privacy.source_names import SourceNames
from unetpipe.errors import TrainingError, UnetpipeError
from unetpipe.imaging.files import write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.image import Image, read_image
from unetpipe.imaging.labels import read_label_volume, renumbered
from unetpipe.imaging.network_input import IGNORED
from unetpipe.inference.components import keep_largest
from unetpipe.metrics.overlap import Overlap, joint_histogram, overlaps

Labels = NDArray[np.integer]
"""Class indices, -1 for what is to be ignored, in the axis order of a case's first image."""


class CaseFiles:
    """Images, references and predictions of cases.

    Args:
        manifest: Manifest of the dataset.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest, self._scheme = manifest, manifest.label_scheme
        self._cases = {case.id: case for case in manifest.cases}

    def image(self, case: str) -> Image:
        """Read a case's image.

        Raises:
            TrainingError: If it cannot be read.
        """
        files = self._cases[case]
        try:
            return read_image(files.images, files.dicom, adopt_affine=_adopted(files))
        except (UnetpipeError, OSError) as error:
            reason = SourceNames.of([files]).hide(str(error))
            raise TrainingError(f"{case}: its image cannot be read again: {reason}") from error

    def reference(self, case: str, image: Grid) -> Labels:
        """Read a case's label file in the axis order of its image.

        Raises:
            TrainingError: If it cannot be read, or does not lie on the image any more.
        """
        files = self._cases[case]
        assert files.label is not None
        try:
            label = read_case_label(files.label, image, self._manifest, adopt_affine=_adopted(files))
        except (UnetpipeError, OSError) as error:
            reason = SourceNames.of([files]).hide(str(error))
            raise TrainingError(
                f"{case}: its label has changed since it was preprocessed ({reason}): run unetpipe preprocess again"
            ) from error
        return self._numbered(label)

    def overlaps(self, reference: Labels, prediction: Labels) -> tuple[Overlap, ...]:
        """One overlap for each of the label scheme's names."""
        histogram = joint_histogram(reference, prediction, len(self._scheme.labels))
        return overlaps(histogram, self._scheme.class_indices)

    def predicted(self, case: str, folder: Path) -> Path:
        """The file of the labels that are predicted for a case: ``.nii.gz``, or ``.png`` of a 2-D image."""
        return folder / f"{self._manifest.file_names[case]}{self._manifest.prediction_suffix}"

    def write(self, case: str, indices: Labels, source: Grid, folder: Path) -> None:
        """Write predicted labels, with the dataset's label values, into a folder."""
        names = self._scheme.names_by_value
        values = dict(enumerate(self._manifest.label_values))
        write_labels(self.predicted(case, folder), renumbered(indices, values, other=values[0]), source, names)

    def reduced(self, case: str, classes: Sequence[int], folder: Path) -> Labels:
        """Read predicted labels, with only the largest component of some classes; the file stays as it is.

        Args:
            case: Case id.
            classes: Class indices.
            folder: Folder that they were written into.
        """
        indices = self._numbered(read_label_volume(self.predicted(case, folder)).array[0])
        for index in classes:
            keep_largest(indices, index)
        return indices

    def _numbered(self, labels: Labels) -> Labels:
        """Class indices of label values."""
        numbers = {value: index for index, value in enumerate(self._manifest.label_values)}
        return renumbered(labels, numbers, other=IGNORED)


def _adopted(case: Case) -> bool:
    """Whether further files took the place of the case's first image; a manifest that does not say may mean it."""
    return case.affine_adopted is not False
