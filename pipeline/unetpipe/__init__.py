"""unetpipe: from a folder of medical scans to a deployable segmentation model.

The stages are functions of a typed config, and a `Predictor` segments arrays in memory:

    from unetpipe import Predictor, infer
    from unetpipe.config import InferConfig

Each is imported when it is first asked for, because torch and MONAI take seconds.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unetpipe.bundle.predictor import Predictor
    from unetpipe.stages.evaluate import evaluate
    from unetpipe.stages.infer import infer
    from unetpipe.stages.preprocess import preprocess
    from unetpipe.stages.train import train, train_folds

# Read by torch at its first tensor: large ones get huge pages, which makes writing to new ones four times as fast.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"
__all__ = ["Predictor", "evaluate", "infer", "preprocess", "train", "train_folds"]

_HOMES = {
    "Predictor": "unetpipe.bundle.predictor",
    "evaluate": "unetpipe.stages.evaluate",
    "infer": "unetpipe.stages.infer",
    "preprocess": "unetpipe.stages.preprocess",
    "train": "unetpipe.stages.train",
    "train_folds": "unetpipe.stages.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unetpipe' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
