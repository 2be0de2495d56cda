"""unetpipe: from a folder of medical scans to a deployable segmentation model.

Each stage is a function of a typed config, as each command is, and a `Predictor` segments arrays in memory:

    import unetpipe

    unetpipe.preprocess(unetpipe.PreprocessConfig(dataset="Task04_Hippocampus", out="work"))
    result = unetpipe.train(unetpipe.TrainConfig(work="work", max_minutes=10))
    labels = unetpipe.Predictor(result.bundle).predict(array, affine)

These names are imported when they are first used: torch and MONAI take seconds. What the package has to say goes to the
logger `unetpipe` and is not shown unless logging is configured.
"""

import importlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unetpipe.bundle.predictor import Predictor
    from unetpipe.choice.choose import ChoiceResult, choose
    from unetpipe.components import register
    from unetpipe.config.evaluate import EvaluateConfig
    from unetpipe.config.infer import InferConfig, MergeConfig
    from unetpipe.config.info import InfoConfig
    from unetpipe.config.models import ModelsConfig
    from unetpipe.config.package import PackageConfig
    from unetpipe.config.preprocess import PreprocessConfig
    from unetpipe.config.sync import SyncConfig
    from unetpipe.config.train import TrainConfig
    from unetpipe.errors import (
        BundleError,
        ClusterError,
        ComponentError,
        DatasetError,
        DeviceError,
        ExtensionError,
        Fault,
        GeometryError,
        ImageFileError,
        PlanError,
        ServiceError,
        TrackingError,
        TrainingError,
        UnetpipeError,
    )
    from unetpipe.progress import Progress
    from unetpipe.stages.evaluate import EvaluateResult, evaluate
    from unetpipe.stages.infer import InferResult, infer
    from unetpipe.stages.info import BundleFolder, DicomSource, ForeignBundleFolder, Installation, WorkFolder, info
    from unetpipe.stages.merge import MergeResult, merge
    from unetpipe.stages.models import ModelsResult, models
    from unetpipe.stages.package import PackageResult, package
    from unetpipe.stages.preprocess import PreprocessResult, preprocess
    from unetpipe.stages.sync import SyncResult, sync
    from unetpipe.stages.train import FoldsResult, TrainResult, train

    __version__: str
else:
    _HOMES = {
        "bundle.predictor": ("Predictor",),
        "choice.choose": ("ChoiceResult", "choose"),
        "components": ("register",),
        "config.evaluate": ("EvaluateConfig",),
        "config.infer": ("InferConfig", "MergeConfig"),
        "config.info": ("InfoConfig",),
        "config.models": ("ModelsConfig",),
        "config.package": ("PackageConfig",),
        "config.preprocess": ("PreprocessConfig",),
        "config.sync": ("SyncConfig",),
        "config.train": ("TrainConfig",),
        "errors": (
            *("BundleError", "ClusterError", "ComponentError", "DatasetError", "DeviceError", "ExtensionError"),
            *("Fault", "GeometryError", "ImageFileError", "PlanError", "ServiceError", "TrackingError"),
            *("TrainingError", "UnetpipeError"),
        ),
        "progress": ("Progress",),
        "stages.evaluate": ("EvaluateResult", "evaluate"),
        "stages.infer": ("InferResult", "infer"),
        "stages.info": ("BundleFolder", "DicomSource", "ForeignBundleFolder", "Installation", "WorkFolder", "info"),
        "stages.merge": ("MergeResult", "merge"),
        "stages.models": ("ModelsResult", "models"),
        "stages.package": ("PackageResult", "package"),
        "stages.preprocess": ("PreprocessResult", "preprocess"),
        "stages.sync": ("SyncResult", "sync"),
        "stages.train": ("FoldsResult", "TrainResult", "train"),
    }

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return _version()
        for home, names in _HOMES.items():
            if name in names:
                return getattr(importlib.import_module(f"unetpipe.{home}"), name)
        raise AttributeError(f"module 'unetpipe' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return __all__

    def _version() -> str:
        from importlib.metadata import PackageNotFoundError, version  # 25 ms

        try:
            return version("unetpipe")
        except PackageNotFoundError:  # a checkout that is on the path and not installed
            return "0+unknown"


__all__ = [
    "BundleError",
    "BundleFolder",
    "ChoiceResult",
    "ClusterError",
    "ComponentError",
    "DatasetError",
    "DeviceError",
    "DicomSource",
    "EvaluateConfig",
    "EvaluateResult",
    "ExtensionError",
    "Fault",
    "FoldsResult",
    "ForeignBundleFolder",
    "GeometryError",
    "ImageFileError",
    "InferConfig",
    "InferResult",
    "InfoConfig",
    "Installation",
    "MergeConfig",
    "MergeResult",
    "ModelsConfig",
    "ModelsResult",
    "PackageConfig",
    "PackageResult",
    "PlanError",
    "Predictor",
    "PreprocessConfig",
    "PreprocessResult",
    "Progress",
    "ServiceError",
    "SyncConfig",
    "SyncResult",
    "TrackingError",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "UnetpipeError",
    "WorkFolder",
    "__version__",
    "choose",
    "evaluate",
    "infer",
    "info",
    "merge",
    "models",
    "package",
    "preprocess",
    "register",
    "sync",
    "train",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
