"""The options of `unetpipe bundle`."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AliasChoices, Field, model_validator

from unetpipe.config.base import Config


class PackageConfig(Config):
    """`unetpipe bundle`."""

    model: Path | None = None
    """Bundle folder, such as WORK/runs/default/fold_0; with `--folds` a run's folder, such as WORK/runs/default."""
    from_nnunet: Path | None = None
    """Make a bundle of this model folder of nnU-Net 2, with plans.json, dataset.json and fold_0/checkpoint_final.pth,
    such as nnUNetTrainer__nnUNetPlans__3d_fullres. Needs `--out`, and takes all folds unless `--folds` names some."""
    folds: str | None = None
    """Make one bundle of several folds, which averages their logits: `all`, or numbers such as 0,1,3. Needs `--out`."""
    out: Path | None = None
    """Folder of the bundle that `--folds` makes; an earlier one is renewed."""
    torchscript: bool = False
    """Also export the network as TorchScript to models/model.ts, which runs without Python."""
    onnx: bool = False
    """Also export the network as ONNX to models/model.onnx. Needs `pip install 'unetpipe[onnx]'`."""
    pt2: bool = False
    """Also export the network as a program of torch.export to models/model.pt2."""
    openvino: bool = False
    """Also export the network for OpenVINO to models/model.xml. Needs `pip install 'unetpipe[openvino]'`."""
    segments: Path | None = None
    """YAML file with the codes of classes or regions in DICOM outputs, by name, to keep in the bundle: for each `type`,
    and where needed `category`, `region`, `laterality` and `colour`."""
    authors: str | None = None
    """Who made the model, for its metadata and its card, where this and the next four statements stay until changed."""
    copyright: str | None = None
    """Who holds the copyright, such as 'Copyright (c) 2026 A University'."""
    data_source: str | None = None
    """Where the training data comes from, such as 'Task04_Hippocampus of http://medicaldecathlon.com'."""
    data_license: Path | None = None
    """Text file with the licence of the training data, which becomes docs/data_license.txt."""
    reference: tuple[str, ...] = ()
    """Publication about the model or its data; all of them replace earlier ones."""
    version: Annotated[str | None, Field(pattern=r"^\d+(\.\d+){1,2}$")] = None
    """Version of the bundle, such as 1.0.0. Default: the next one where the model has changed."""
    changes: str | None = None
    """What is new in this version, for the changelog. Default: which parts of the model have changed."""
    zip: Path | None = None
    """Pack the bundle, without the other files of its folder, into this zip. The same bundle gives the same bytes."""
    register_as: Annotated[str | None, Field(validation_alias=AliasChoices("register_as", "register"))] = None
    """Register the bundle under this name in MLflow's model registry: that of the store which `MLFLOW_TRACKING_URI`
    names, or of the work folder's."""
    alias: str | None = None
    """Let this alias of the registered model, such as champion, point at the bundle."""

    @model_validator(mode="after")
    def _an_alias_is_of_a_registered_model(self) -> Self:
        if self.alias is not None and self.register_as is None:
            raise ValueError("--alias goes with --register")
        return self

    @model_validator(mode="after")
    def _what_is_made_goes_into_a_folder(self) -> Self:
        if (self.model is None) == (self.from_nnunet is None):
            raise ValueError("expected either a bundle or --from-nnunet FOLDER")
        if self.from_nnunet is not None and self.out is None:
            raise ValueError("--from-nnunet needs --out, the folder of the bundle")
        if self.from_nnunet is None and (self.folds is None) != (self.out is None):
            raise ValueError("--folds and --out belong together")
        return self
