"""The options of `unetpipe train`."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from unetpipe.components import Part
from unetpipe.config.base import Config, Extensions, Precision, RunName, Seed, Tracking, typed_yaml

Strength = Literal["none", "light", "default", "strong"]


class TrainConfig(Config):
    """`unetpipe train`."""

    work: Path
    """Work folder that `unetpipe preprocess` made."""
    fold: int = 0
    """Number of the fold whose validation cases are held out."""
    folds: str | None = None
    """Train several folds, one after the other, in place of `fold`: `all`, or numbers such as 0,1,3."""
    network: Part = "auto"
    """`auto` follows the plan: `resenc`, a residual encoder, if it has `encoder_blocks`, else `dynunet`. `unet` is the
    classic U-Net. Also `segresnet`, `swinunetr`, a network of an extension, or any class of monai.networks.nets by its
    name or as a definition, such as '{_target_: monai.networks.nets.UNet, channels: [16, 32], strides: [2]}'."""
    network_options: dict[str, Any] = {}
    """Arguments of a network that is given by its name, as YAML: norm=none or upsampling=interpolated for `unet`, the
    constructor's for a class."""
    loss: Part = "dice_ce"
    """`dice_ce`: Dice + cross-entropy. `dice_focal`: Dice + focal (gamma 2), where most voxels are easy. `tversky_ce`:
    Tversky (alpha 0.3, beta 0.7) + cross-entropy, where a missed voxel should cost more than a false one. Or a loss of
    an extension, or a definition, such as '{_target_: monai.losses.HausdorffDTLoss}'."""
    first_stage: RunName | None = None
    """Name of a run of the work folder that has all folds, such as one of 3d_lowres: its labels of the cases that its
    folds held out become further channels of the images, one for each class but the background. The bundle holds both
    models: a cascade."""
    init: str | None = None
    """Bundle whose weights training starts from: a path, the name of a bundle, or a registered model. The work folder
    has to be preprocessed with the same `--init`. The head starts anew where the classes are others."""
    init_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of the weights that `--init` gives, as a share of that of all others."""
    freeze: Literal["encoder"] | None = None
    """Part of the network of `--init` whose weights stay as they are."""
    class_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Weight of a class in the cross-entropy or focal term, by name; 1 unless given."""
    optimizer: Part | None = None
    """`sgd` (Nesterov momentum 0.99), `muon`, `adamw`, an optimiser of an extension, or a definition, such as
    '{_target_: torch.optim.RMSprop}'. Unless given, `sgd` for 50,000 steps or more and `muon` for fewer."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate; the optimiser's own unless given: 0.01 for `sgd`, 0.005 for `muon`, 0.002 for `adamw`."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Weight decay; the optimiser's own unless given: 0.00003 for `sgd`, 0.01 for `muon` and `adamw`."""
    schedule: Part | None = None
    """Learning rate over the run: `poly`, `one_cycle`, `cosine`, `constant`, a schedule of an extension, or a
    definition, such as '{_target_: torch.optim.lr_scheduler.StepLR, step_size: 300}', whose steps are thousandths of
    the run. Unless given, `poly` for `sgd`, else `one_cycle`."""
    clip: Annotated[float, Field(ge=0)] = 12.0
    """Largest norm of a step's gradient, which is scaled down to it; 0 leaves every gradient as it is."""
    ema: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Memory of the moving average of weights that is deployed, as a share of the whole run; 0 deploys the last step's
    weights."""
    foreground_share: Annotated[float, Field(ge=0, le=1)] = 1 / 3
    """Share of each batch whose patches are centred on a foreground voxel; nnU-Net's is a third."""
    configuration: str | None = None
    """Configuration of the plan to train. Default: the one that the plan names."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Number of epochs. Default: 1000 as published, or as many as `max_minutes` allows."""
    iterations: Annotated[int, Field(ge=1)] = 250
    """Number of optimiser steps per epoch."""
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    """Wall-clock budget of a fold in minutes, which covers set-up, training, validation and saving."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop early when the smoothed Dice has not risen for this number of epochs."""
    target_dice: Annotated[float, Field(gt=0, le=1)] | None = None
    """Stop early when the smoothed Dice reaches this value."""
    deploy: Literal["last", "best"] = "last"
    """Weights that the bundle gets at the end: the last ones, or those with the best smoothed Dice."""
    augmentation: Strength = "default"
    """How often images are augmented: `default` as nnU-Net does, `light` half as often, `strong` one and a half times
    as often, `none` never."""
    augmentation_options: dict[str, Any] = {}
    """Changes of single transforms, as YAML: rotation.probability=0.3, gamma.exponent=[0.5, 2], mirror=off."""
    augmentation_steps: tuple[Part, ...] = ()
    """Random transform that follows the package's own: one of an extension, or a definition, such as
    '{_target_: monai.transforms.RandBiasFieldd, prob: 0.3}'."""
    device: str = "auto"
    """Device to compute on: `cpu`, `cuda`, `cuda:1` or `mps`; `auto` takes a GPU where there is one."""
    gpus: Annotated[int, Field(ge=1)] = 1
    """GPUs of this machine that share each batch (processes with `--device cpu`)."""
    precision: Precision = "auto"
    """Precision of matrix products; `auto` takes the fastest that the device has in hardware."""
    seed: Seed = 0
    """Seed of weights, sampling and augmentation."""
    deterministic: bool = False
    """Compute in an order that gives the same bits each time, which a GPU otherwise does not; slower there. On a CPU it
    is so anyway. Needs a length in `--epochs`, as `--max-minutes` fits into its time as many steps as it can."""
    run_name: RunName = "default"
    """Name of the run, which is its folder under WORK/runs. The same command continues a run that was interrupted."""
    tracking: Tracking = "mlflow"
    """Where the run's curves and figures go besides its folder: `mlflow`, `none`, or a tracker of an extension."""
    extension: Extensions = ()

    @model_validator(mode="after")
    def _counts_its_steps(self) -> Self:
        if self.deterministic and self.max_minutes is not None:
            raise ValueError("--deterministic needs --epochs: how many steps fit into --max-minutes is never the same")
        return self

    @model_validator(mode="after")
    def _starts_from_a_model(self) -> Self:
        if self.init is None and (self.freeze is not None or self.init_rate != 1):
            raise ValueError("--freeze and --init-rate are about the weights of --init, which is not given")
        return self

    @field_validator("network_options", "augmentation_options", mode="before")
    @classmethod
    def _typed_values(cls, options: Any) -> Any:
        """Read values that were typed on the command line as YAML."""
        if not isinstance(options, dict):
            return options
        return {name: typed_yaml(value) for name, value in options.items()}

    @field_validator("augmentation_options", mode="after")
    @classmethod
    def _nested(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Gather ``transform.field`` under the transform, so that both ways of writing compare equal."""
        nested: dict[str, Any] = {}
        for name, value in options.items():
            transform, dot, field = name.partition(".")
            given, earlier = {field: value} if dot else value, nested.get(transform, {})
            if not isinstance(earlier, dict) or (earlier and not isinstance(given, dict)):
                raise ValueError(f"{transform} is given as a whole and by its fields")
            nested[transform] = earlier | given if isinstance(given, dict) else given
        return nested
