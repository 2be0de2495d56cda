"""The options of `unetpipe evaluate`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from unetpipe.components import Part
from unetpipe.config.base import (
    MAX_VOXELS,
    Config,
    Extensions,
    MaxVoxels,
    RunName,
    Seed,
    SegmentNames,
    SegThreshold,
    Tracking,
)
from unetpipe.label_values import LabelValues


class EvaluateConfig(Config):
    """`unetpipe evaluate`."""

    predictions: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Folders of label files, or single label files. Further ones are compared with the first."""
    reference: Path | None = None
    """Folder of reference labels, or a single file; files are paired by name. Default: the references of the work
    folder."""
    out: Path
    """Folder for the metrics and the report."""
    work: Path | None = None
    """Work folder whose manifest names the classes, the patients and the images, and the references unless they are
    given."""
    cross_validation: bool = False
    """Take `predictions` as work folders, and gather from each what all folds of `run_name` predicted for the cases
    that they held out."""
    run_name: RunName = "default"
    """Name of the run whose folds `cross_validation` gathers."""
    choose: bool = False
    """With `cross_validation`, compare all runs of the work folder that have every fold, and every pair of them,
    averaged; decide on post-processing; and make one bundle of the folds of the chosen ones in OUT/model. Of those that
    are not behind the best beyond chance, the model with the fewest parts is chosen."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """Evaluate only the cases that this fold of the work folder holds out."""
    labels: Annotated[dict[str, LabelValues], Field(validation_alias=AliasChoices("labels", "classes"))] = {}
    """Label values of each class to report, by name: liver=1, or several values as one class, such as axon=255,233-254.
    Empty: the work folder's, or every value that occurs."""
    segment_names: SegmentNames = {}
    seg_threshold: SegThreshold = None
    tolerance_mm: Annotated[float, Field(gt=0)] = 1.0
    """Tolerance of NSD in mm, for every class that `tolerances_mm` does not name."""
    tolerances_mm: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Tolerance of NSD in mm, by class name or label value."""
    resample: bool = False
    """Resample predictions on another grid to that of the reference, by nearest neighbour, instead of refusing them."""
    metric: tuple[Part, ...] = ()
    """A further metric: `cldice`, centreline Dice for thin structures (needs `pip install 'unetpipe[cldice]'`), a name
    that an extension has registered, or a definition of one of MONAI's, such as
    '{_target_: monai.metrics.SurfaceDiceMetric, class_thresholds: [2.0]}'."""
    by: tuple[str, ...] = ()
    """Columns of `table`, such as scanner,sex, by whose values the cases are also evaluated group by group."""
    table: Path | None = None
    """CSV of the cases with the columns that `by` names, and one that says whose row it is: case, id, image, label or
    patient. A list that `unetpipe preprocess` takes is one."""
    lesions: bool = False
    """Also match connected components, and count those that are found, missed and false."""
    fail_under: dict[str, float] = {}
    """Bound of the mean of a metric in every class, such as dice=0.85 or hd95_mm=3. The evaluation has not passed, and
    the command exits with 1, if a mean is worse."""
    report: bool = True
    """Write report.html."""
    viewer: Literal["niivue"] | None = None
    """Also write viewer.html, which shows the cases of the report in 3-D. It needs NiiVue in this folder: npm install
    @niivue/niivue."""
    images: Path | None = None
    """Folder of scans with the names of the references, to show under the overlays of the report."""
    tracking: Tracking = "mlflow"
    """Add figures and report to the run that trained the model, where predictions.json names it: `mlflow`, `none`, or
    a tracker of an extension."""
    seed: Seed = 0
    """Seed of the bootstrap."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Number of threads. Default: one per available core."""
    max_voxels: MaxVoxels = MAX_VOXELS
    extension: Extensions = ()

    @model_validator(mode="after")
    def _choosing_takes_a_work_folder(self) -> Self:
        if self.choose and (not self.cross_validation or len(self.predictions) > 1):
            raise ValueError("--choose goes with --cross-validation and one work folder")
        if self.choose and (self.fold is not None or self.reference is not None or self.fail_under):
            raise ValueError("--choose takes no --fold, --reference or --fail-under")
        return self

    @field_validator("by")
    @classmethod
    def _apart(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Take columns that commas separate for several."""
        named = [name.strip() for column in columns for name in column.split(",")]
        return tuple(dict.fromkeys(filter(None, named)))
