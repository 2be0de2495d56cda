"""What `infer` needs to know about a model; a bundle holds it in `configs/metadata.json` under the key ``unetpipe``."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from unetpipe.bundle.archive import PARTS
from unetpipe.bundle.evidence import Evidence
from unetpipe.bundle.recipe import TrainingRecipe
from unetpipe.components import Definition
from unetpipe.dataset.label_scheme import LabelClass, LabelScheme, Region
from unetpipe.dataset.merging import MergedValues
from unetpipe.dataset.training_domain import TrainingDomain
from unetpipe.documents import Record
from unetpipe.imaging.dicom.derived.codes import SegmentCode
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.preprocessing import Preprocessing
from unetpipe.inference.quality import Quality
from unetpipe.inference.sliding_window import GAUSSIAN, Blending

SPEC_KEY = "unetpipe"


class ModelTask(Record):
    """What a model takes and what it gives.

    Attributes:
        spatial_dims: Number of spatial axes of an image, 2 or 3.
        channels: Modality of each input channel.
        labels: Classes, each with its value in label files; in the order of the network's logits but for regions.
        regions: Regions that the network's logits stand for, where they are not classes.
        segments: Codes of classes or regions in DICOM outputs, by name.
        postprocessing: Names of the classes of which only the largest component is kept on the scan's grid.
    """

    spatial_dims: Literal[2, 3]
    channels: tuple[str, ...]
    labels: tuple[LabelClass, ...]
    regions: tuple[Region, ...] = ()
    segments: Mapping[str, SegmentCode] = {}
    postprocessing: tuple[str, ...] = ()

    @property
    def input_channels(self) -> int:
        """Channels of the network's input."""
        return len(self.channels)

    @property
    def label_scheme(self) -> LabelScheme:
        """Classes and regions that the network's logits stand for."""
        return LabelScheme(self.labels, self.regions)


class BundlePart(Record):
    """Another bundle inside of a bundle, in its folder `parts/NAME`.

    Attributes:
        name: Name of its folder.
        sha256: Hash of its weights, so that no other bundle takes its place.
    """

    name: Annotated[str, Field(pattern=r"^[\w][\w.-]{0,99}$")]
    sha256: str

    @property
    def folder(self) -> str:
        """Path of its folder in the bundle."""
        return f"{PARTS}/{self.name}"


class ModelSpec(ModelTask):
    """Everything about a trained model but its weights and its network.

    Attributes:
        preprocessing: Steps from an image in RAS+ order to the network's input.
        step_code: Code of those of its steps that an extension registers (`imaging.preprocessing.step_code`).
        patch_size: Shape of the sliding window.
        blending: How overlapping windows are averaged.
        merged: Further label values of reference labels, and the class that each counts as.
        ignore_value: Label value of reference labels that takes no part; None where there is none.
        mirror_axes: Spatial axes that were mirrored in training, so that averaging over mirrored copies may use them.
        folds: Numbers of the folds whose networks the bundle holds, and whose logits are averaged; empty where it holds
            a single network.
        first_stage: Model whose labels are further channels of this one's images, one for each class but the
            background: this is then the second stage of a cascade.
        averaged_with: Models on grids of their own whose logits are averaged with this one's on the scan's grid.
        registered_network: Definition of a network that an extension registers; it is run from its TorchScript. None
            where MONAI builds the network.
        quality: The worth of the network's confidence in held-out cases, by which the Dice of its labels is predicted;
            None where it is not known.
        weights: Which weights `models/model.pt` holds: those of the last step, or the best on validation cases.
        recipe: How `train.json` trains.
        evidence: What its training measured; None where that is not known.
        training_domain: Voxel sizes, extents and intensities of the training set; None where they are not known.
        tracking_run: Id of the MLflow run that trained it; None where no store answered.
        finished: The model's training is over; False between its epochs.
    """

    schema_version: Literal[1] = 1
    preprocessing: Preprocessing
    step_code: tuple[str, ...] = ()
    patch_size: Shape
    blending: Blending = GAUSSIAN
    merged: tuple[MergedValues, ...] = ()
    ignore_value: int | None = None
    mirror_axes: tuple[int, ...]
    folds: tuple[int, ...] = ()
    first_stage: BundlePart | None = None
    averaged_with: tuple[BundlePart, ...] = ()
    registered_network: Definition | None = None
    quality: Quality | None = None
    weights: Literal["last", "best"] = "last"
    recipe: TrainingRecipe = TrainingRecipe()
    evidence: Evidence | None = None
    training_domain: TrainingDomain | None = Field(None, validation_alias=AliasChoices("training_domain", "familiar"))
    tracking_run: str | None = None
    finished: bool = True

    @property
    def weight_files(self) -> tuple[str, ...]:
        """Path in the bundle of each network's weights."""
        return tuple(f"models/model_fold{fold}.pt" for fold in self.folds) or ("models/model.pt",)

    @property
    def parts(self) -> tuple[BundlePart, ...]:
        """All bundles inside of the bundle."""
        return (*((self.first_stage,) if self.first_stage else ()), *self.averaged_with)

    @property
    def input_channels(self) -> int:
        """Channels of the network's input."""
        return len(self.channels) + (len(self.labels) - 1 if self.first_stage else 0)
