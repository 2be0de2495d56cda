"""The options of `unetpipe sync`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from unetpipe.config.base import Config


class SyncConfig(Config):
    """`unetpipe sync`."""

    runs: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Folders of trainings, such as WORK/runs/default/fold_0, or of runs with several folds, such as WORK/runs/default.
    They go to the store that `MLFLOW_TRACKING_URI` names, or to the work folder's."""
