"""The options of `unetpipe demo`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from unetpipe.config.base import Config, Seed


class DemoConfig(Config):
    """`unetpipe demo`."""

    out: Path = Path("demo")
    """Folder to make. One that an earlier demo made is replaced."""
    minutes: Annotated[float, Field(gt=0)] = 3.0
    """Minutes of training, validation included."""
    seed: Seed = 0
    """Seed of the dataset and of the training."""
