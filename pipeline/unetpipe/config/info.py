"""The options of `unetpipe info`."""

from pathlib import Path

from unetpipe.config.base import Config


class InfoConfig(Config):
    """`unetpipe info`."""

    path: Path | None = None
    """Work folder, bundle (a path, a name of `unetpipe models list`, or models:/NAME@ALIAS of MLflow's registry) or
    DICOM source (folder, zip or file) to describe. Default: this installation."""
