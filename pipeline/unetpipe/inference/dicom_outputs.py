"""The DICOM objects that `infer` writes for each scan, each either whole or not there, in a folder for each format."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.config.infer import DicomFormat, InferConfig, SegmentationType
from unetpipe.dataset.label_scheme import LabelScheme
from unetpipe.errors import BundleError, DatasetError, Fault, ImageFileError, UnetpipeError
from unetpipe.imaging.dicom.derived.algorithm import Algorithm
from unetpipe.imaging.dicom.derived.codes import CodedSegment, SegmentCode
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.sources import is_dicom
from unetpipe.imaging.geometry import Grid
from unetpipe.inference.inputs import InputCase
from unetpipe.inference.quality import PredictedDice
from unetpipe.inference.segments import coded_segments

if TYPE_CHECKING:
    from unetpipe.imaging.dicom.derived.instances import NewInstance
    from unetpipe.imaging.dicom.derived.source import Source

_SAME_GRID_MM = 1e-3


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """The prediction for one scan.

    Attributes:
        grid: Grid that the scan was read on.
        labels: Label values, (I, J, K).
        probabilities: Probabilities (L, I, J, K) of the model's outputs, of which the segments are the last. None
            unless fractional segmentations are written.
        volumes_ml: Volume of each class or region in millilitres.
        agreement: Dice coefficient between averaged predictions, of the classes for which there is one.
        predicted: Dice to be expected, of the classes for which the models know it.
    """

    grid: Grid
    labels: NDArray[Any]
    probabilities: NDArray[np.float16] | None
    volumes_ml: Mapping[str, float]
    agreement: Mapping[str, float]
    predicted: Mapping[str, PredictedDice]


@dataclass(frozen=True)
class DicomOutputs:
    """Writes the predictions of scans that are DICOM sources.

    Attributes:
        folder: Folder of all outputs.
        formats: Formats to write, in that order.
        segments: Segments of the model.
        algorithm: Models that predict.
        seg_type: Type of segmentations.
    """

    folder: Path
    formats: tuple[DicomFormat, ...]
    segments: tuple[CodedSegment, ...]
    algorithm: Algorithm
    seg_type: SegmentationType

    def paths(self, case: InputCase) -> dict[DicomFormat, Path]:
        """The files of a scan's objects."""
        return {name: self.folder / name / f"{case.file_name}.dcm" for name in self.formats}

    @property
    def needs_probabilities(self) -> bool:
        """Whether probabilities are written beside labels."""
        return "dicom-seg" in self.formats and self.seg_type == "fractional"

    def write(self, case: InputCase, found: Predicted) -> tuple[str, ...]:
        """Write a scan's objects.

        Returns:
            Sentences for a person to check.

        Raises:
            ImageFileError: If the source is no longer what was segmented, or cannot be referred to.
        """
        if not self.formats:
            return ()
        source = _source(case)
        if source.grid.difference_mm(found.grid) > _SAME_GRID_MM:
            raise ImageFileError("DICOM series: it has changed since it was segmented")
        paths = self.paths(case)
        segmentation = None
        if "dicom-seg" in paths:
            segmentation = self._write_segmentation(paths["dicom-seg"], source, found)
        if "rtstruct" in paths:
            from unetpipe.imaging.dicom.derived.structure_set import write_structure_set

            write_structure_set(paths["rtstruct"], source, self.segments, self.algorithm, found.labels)
        if "dicom-sr" in paths:
            from unetpipe.imaging.dicom.derived.report import Measured, write_report  # highdicom

            measured = [
                Measured(
                    volume_ml=found.volumes_ml[one.name],
                    agreement=found.agreement.get(one.name),
                    predicted_dice=found.predicted[one.name].dice if one.name in found.predicted else None,
                )
                for one in self.segments
            ]
            write_report(paths["dicom-sr"], source, self.segments, self.algorithm, measured, segmentation)
        return source.notes

    def _write_segmentation(self, path: Path, source: "Source", found: Predicted) -> "NewInstance":
        from unetpipe.imaging.dicom.derived.segmentation import write_segmentation  # highdicom takes a second

        array = found.labels
        if self.seg_type == "fractional":
            assert found.probabilities is not None  # since they are needed
            array = found.probabilities[-len(self.segments) :]
        return write_segmentation(path, source, self.segments, self.algorithm, array, kind=self.seg_type)


def dicom_outputs(
    config: InferConfig, scheme: LabelScheme, codes: Mapping[str, SegmentCode], algorithm: Algorithm
) -> DicomOutputs:
    """The DICOM formats that are asked for; a model that cannot be written in one is refused at once.

    Args:
        config: Options of `infer`.
        scheme: Classes and regions of the model.
        codes: Codes that the model has for them, by name.
        algorithm: Models that predict.

    Raises:
        BundleError: If a class has no code, or overlapping regions are wanted as a label map.
        UnetpipeError: If a type of segmentation is chosen and none is written.
    """
    formats = tuple(name for name in dict.fromkeys(config.format) if name != "nifti")
    if config.seg_type != "binary" and "dicom-seg" not in formats:
        raise UnetpipeError(f"--seg-type {config.seg_type} needs --format dicom-seg")
    if "dicom-seg" in formats and config.seg_type == "labelmap" and scheme.overlapping:
        raise BundleError("--seg-type labelmap cannot hold the model's regions, which overlap: take binary")
    return DicomOutputs(
        folder=config.out,
        formats=formats,
        segments=coded_segments(scheme, codes, uncoded=config.uncoded) if formats else (),
        algorithm=algorithm,
        seg_type=config.seg_type,
    )


def _source(case: InputCase) -> "Source":
    from unetpipe.imaging.dicom.derived.source import read_source  # pydicom

    choices = case.dicom or (DicomOptions(),) * len(case.paths)
    dicom = [(path, choice) for path, choice in zip(case.paths, choices, strict=True) if is_dicom(path)]
    return read_source(*zip(*dicom, strict=True))


def require_dicom(cases: Iterable[InputCase], formats: Sequence[DicomFormat]) -> None:
    """See that every scan that can be read is a DICOM source.

    Raises:
        DatasetError: Naming each scan that is none.
    """
    message = f"--format {formats[0]} needs a DICOM source" if formats else ""
    others = [case for case in cases if formats and not case.fault and not case.is_dicom]
    if others:
        raise DatasetError([Fault(case=case.id, kind="format", message=message) for case in others])
