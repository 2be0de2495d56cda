"""The options of `unetpipe models`."""

from typing import Literal

from unetpipe.config.base import Config


class ModelsConfig(Config):
    """`unetpipe models`."""

    action: Literal["list"] = "list"
    """What to do: list the bundles that can be called by their names."""
