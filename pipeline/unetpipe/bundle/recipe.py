"""How a bundle's `train.json` trains: what of a run's training MONAI and PyTorch can do without unetpipe."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from unetpipe.components import Definition
from unetpipe.documents import Record

NamedLoss = Literal["dice_ce", "dice_focal", "tversky_ce"]
LOSSES: tuple[NamedLoss, ...] = get_args(NamedLoss)

_SGD: Definition = {
    "_target_": "torch.optim.SGD",
    "lr": 0.01,
    "momentum": 0.99,
    "nesterov": True,
    "weight_decay": 3e-5,
}


class TrainingRecipe(Record):
    """The training of `train.json`. Its defaults are nnU-Net's.

    Attributes:
        loss: Loss, by unetpipe's name of it.
        class_weights: Weight of each output in the term per voxel; empty where all weigh the same.
        optimizer: MONAI definition of the optimiser, but for its parameters.
        epochs: Number of passes over the training cases, one patch of each.
        batch_size: Patches of a batch.
        foreground_share: Share of patches that are centred on a foreground voxel.
        augmented: Whether images are augmented.
        differences: What the run that trained the model did otherwise, each as a part of a sentence.
    """

    loss: NamedLoss = "dice_ce"
    class_weights: tuple[float, ...] = ()
    optimizer: Definition = Field(default_factory=lambda: dict(_SGD))
    epochs: Annotated[int, Field(ge=1)] = 1000
    batch_size: Annotated[int, Field(ge=1)] = 2
    foreground_share: Annotated[float, Field(ge=0, le=1)] = 1 / 3
    augmented: bool = True
    differences: tuple[str, ...] = ()
