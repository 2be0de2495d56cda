"""All metrics of all classes of one case, and what is said about empty masks.

| reference | prediction | outcome        | Dice, IoU, NSD | sensitivity | precision | distances | volume error |
|-----------|------------|----------------|----------------|-------------|-----------|-----------|--------------|
| voxels    | voxels     | matched        | as defined     | as defined  | as defined| as defined| ml and %     |
| empty     | empty      | true_negative  | NaN            | NaN         | NaN       | NaN       | 0 ml         |
| empty     | voxels     | false_positive | 0              | NaN         | 0         | NaN       | ml           |
| voxels    | empty      | missed         | 0              | 0           | NaN       | NaN       | ml and -100 %|
| voxels    | no file    | no_prediction  | 0              | 0           | NaN       | NaN       | ml and -100 %|
| empty     | no file    | no_prediction  | NaN            | NaN         | NaN       | NaN       | 0 ml         |
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unetpipe.imaging.boxes import class_boxes, union
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import renumbered
from unetpipe.metrics.lesions import Lesions, match_lesions
from unetpipe.metrics.nearest import Steps
from unetpipe.metrics.overlap import Overlap, joint_histogram, overlaps
from unetpipe.metrics.surface import SurfaceScores, surface_scores

_PERPENDICULAR = 1e-4
"""Cosine of axes that count as perpendicular: directions in float32 are as exact."""
Outcome = Literal["matched", "true_negative", "false_positive", "missed", "no_prediction"]

HIGHER_IS_BETTER: Mapping[str, bool] = {
    "dice": True,
    "iou": True,
    "sensitivity": True,
    "precision": True,
    "nsd": True,
    "hd_mm": False,
    "hd95_mm": False,
    "assd_mm": False,
    "masd_mm": False,
    "volume_error_ml": False,
    "volume_error_percent": False,
    "lesion_f1": True,
    "lesions_missed": False,
    "lesions_false": False,
}
"""Every metric of the package, in the order they are reported. Of volume errors the size counts, not the sign."""


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class of one case: attributes named as in `HIGHER_IS_BETTER`, and what they were measured on.

    Attributes:
        case: Case id.
        value: Label value of the class.
        outcome: Row of the table above that applies.
        overlap: Voxel counts of the class.
        surface: Surface distances of the class.
        lesions: Counts of lesions; None where they are not requested.
        tolerance_mm: Tolerance of the NSD.
        voxel_ml: Volume of a voxel.
        named: Metrics that a person named beside these, by name.
    """

    case: str
    value: int
    outcome: Outcome
    overlap: Overlap
    surface: SurfaceScores
    lesions: Lesions | None
    tolerance_mm: float
    voxel_ml: float
    named: Mapping[str, float] = field(default_factory=dict)

    @property
    def reference_ml(self) -> float:
        return self.overlap.reference * self.voxel_ml

    @property
    def prediction_ml(self) -> float:
        return self.overlap.prediction * self.voxel_ml

    def metrics(self) -> dict[str, float]:
        """Every metric by name; lesion metrics only where they are requested, named ones last."""
        overlap, surface = self.overlap, self.surface
        error = overlap.prediction - overlap.reference
        values = {
            "dice": overlap.dice,
            "iou": overlap.iou,
            "sensitivity": overlap.sensitivity,
            "precision": overlap.precision,
            "nsd": surface.nsd,
            "hd_mm": surface.hd_mm,
            "hd95_mm": surface.hd95_mm,
            "assd_mm": surface.assd_mm,
            "masd_mm": surface.masd_mm,
            "volume_error_ml": error * self.voxel_ml,
            "volume_error_percent": 100 * error / overlap.reference if overlap.reference else float("nan"),
        }
        if self.lesions is not None:
            values["lesion_f1"] = self.lesions.f1
            values["lesions_missed"] = float(self.lesions.missed)
            values["lesions_false"] = float(self.lesions.false)
        return values | dict(self.named)


def score_case(
    case: str,
    reference: NDArray[np.integer],
    prediction: NDArray[np.integer] | None,
    grid: Grid,
    tolerances_mm: Mapping[int, float],
    *,
    lesions: bool = False,
    workers: int = 1,
) -> list[ClassScore]:
    """Measure every class of one case.

    Args:
        case: Case id.
        reference: Label values, shape of `grid`.
        prediction: Label values, shape of `grid`; None if there is none.
        grid: Grid of both, which gives the spacing.
        tolerances_mm: NSD tolerance of each class to measure, by label value.
        lesions: Match connected components too.
        workers: Number of threads, over classes.

    Returns:
        One score per class, in the order of `tolerances_mm`. Values that are not in it count as background.
    """
    values = list(tolerances_mm)
    spacing_mm, steps_mm = grid.spacing_mm, _sheared_steps_mm(grid)
    if reference.flags.f_contiguous:  # as NIfTI files are: walk through memory in its own order
        reference, spacing_mm, steps_mm = reference.T, spacing_mm[::-1], steps_mm and steps_mm[::-1]
        prediction = None if prediction is None else prediction.T
    indices = {value: index for index, value in enumerate(values, start=1)}
    ours = renumbered(reference, indices, other=0)
    theirs = np.zeros_like(ours) if prediction is None else renumbered(prediction, indices, other=0)
    counts = overlaps(joint_histogram(ours, theirs, len(values) + 1), [(index,) for index in indices.values()])
    boxes = [
        union(*pair) for pair in zip(class_boxes(ours, len(values)), class_boxes(theirs, len(values)), strict=True)
    ]

    def score(position: int) -> ClassScore:
        value, overlap, box = values[position], counts[position], boxes[position]
        surface, matched = SurfaceScores(), Lesions(found=0, missed=0, false=0)
        if box is not None:
            index = position + 1
            pair = ours[box] == index, theirs[box] == index
            surface = surface_scores(*pair, spacing_mm, tolerances_mm[value], steps_mm)
            matched = match_lesions(*pair) if lesions else matched
        return ClassScore(
            case=case,
            value=value,
            outcome="no_prediction" if prediction is None else _outcome(overlap),
            overlap=overlap,
            surface=surface,
            lesions=matched if lesions else None,
            tolerance_mm=tolerances_mm[value],
            voxel_ml=grid.voxel_ml,
        )

    if workers == 1:
        return [score(position) for position in range(len(values))]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(score, range(len(values))))


def _sheared_steps_mm(grid: Grid) -> Steps | None:
    """The way to the next voxel along each axis; None where axes are perpendicular, and voxel sizes say it all."""
    axes = grid.matrix[:3, : grid.ndim]
    cosines = axes.T @ axes / np.outer(grid.spacing_mm, grid.spacing_mm)
    if np.abs(cosines - np.eye(grid.ndim)).max() < _PERPENDICULAR:
        return None
    return tuple(map(tuple, axes.T.tolist()))


def absent_score(case: str, value: int, tolerance_mm: float, *, predicted: bool, lesions: bool) -> ClassScore:
    """Score of a class that neither reference nor prediction holds.

    Args:
        case: Case id.
        value: Label value of the class.
        tolerance_mm: Tolerance of the NSD, the same for all scores of the class.
        predicted: Whether a prediction exists.
        lesions: Whether components are counted.
    """
    return ClassScore(
        case=case,
        value=value,
        outcome="true_negative" if predicted else "no_prediction",
        overlap=Overlap(both=0, reference=0, prediction=0),
        surface=SurfaceScores(),
        lesions=Lesions(found=0, missed=0, false=0) if lesions else None,
        tolerance_mm=tolerance_mm,
        voxel_ml=0.0,
    )


def _outcome(overlap: Overlap) -> Outcome:
    match overlap.reference > 0, overlap.prediction > 0:
        case True, True:
            return "matched"
        case True, False:
            return "missed"
        case False, True:
            return "false_positive"
        case _:
            return "true_negative"
