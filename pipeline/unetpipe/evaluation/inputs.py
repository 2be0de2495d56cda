"""What one evaluation reads: references, the predictions of each model, classes and patients."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unetpipe.dataset.label_scheme import Region, values_of_segments
from unetpipe.dataset.merging import MergedValues
from unetpipe.evaluation.label_files import Files
from unetpipe.evaluation.predicted_dice import PredictedOfCases
from unetpipe.imaging.dicom.label_target import LabelTarget, SegmentRules
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.geometry import Grid
from unetpipe.inference.predictions import ModelUsed


@dataclass(frozen=True, kw_only=True)
class Model:
    """The predictions of one model.

    Attributes:
        name: Name of the folder of predictions, long enough to differ from those of other models.
        files: Label files.
        made_by: Bundles that made the predictions, where predictions.json names them.
        missing: Ids of references without a prediction.
        extra: Ids of predictions without a reference, which are not evaluated.
        predicted: Predicted Dice by case id, where predictions.json has it.
    """

    name: str
    files: Files
    made_by: tuple[ModelUsed, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    predicted: PredictedOfCases = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that one evaluation reads.

    Attributes:
        dataset: Name of the dataset, where a work folder gives one.
        references: Label files, sorted by case id.
        models: One or more; the first is the baseline of a comparison.
        classes: Name by label value; empty where every value that occurs is a class named by itself.
        chosen: Whether a person named the classes, so that other values may be left out on purpose.
        merged: Further label values that count as one of a class, in references and predictions.
        adopted: First image of each case whose reference counts as lying where that image does, by case id.
        choices: Choice of the volume in a scan's DICOM source, by case id, where the work folder records one.
        regions: Sets of label values that make one class each, named by the value that is written for it.
        ignore_value: Value of reference voxels that are not evaluated.
        segment_rules: How segments of DICOM become labels.
        patients: Patient by case id, where they are known.
        known_as: Ids of cases with pseudonyms, by what the dataset calls them and by their other pseudonyms.
        images: Scans, where they are known.
        names_patients: Whether some scans are DICOM sources without a pseudonym, whose ids may identify patients.
    """

    dataset: str | None
    references: Files
    models: tuple[Model, ...]
    classes: Mapping[int, str]
    chosen: bool = False
    regions: tuple[Region, ...] = ()
    merged: tuple[MergedValues, ...] = ()
    adopted: Files = field(default_factory=dict)
    choices: Mapping[str, DicomOptions] = field(default_factory=dict)
    ignore_value: int | None
    segment_rules: SegmentRules = field(default_factory=SegmentRules)
    patients: Mapping[str, str]
    images: Files
    names_patients: bool
    known_as: Mapping[str, str] = field(default_factory=dict)

    def label_target(self, grid: Grid) -> LabelTarget:
        """What segments of DICOM are drawn into, for the grid of an image."""
        return LabelTarget(grid, values_of_segments(self.classes, self.regions), self.segment_rules)
