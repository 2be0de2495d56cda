"""The command line: parse, make a config, run one stage, print what came of it."""

from unetpipe.cli.app import app

__all__ = ["app"]
