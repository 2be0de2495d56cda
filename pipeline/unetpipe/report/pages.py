"""The parts that a report's pages share: rendering of templates, and embedding of data in them."""

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """Templates of this package; what is put into them is escaped."""
    return Environment(
        loader=PackageLoader("unetpipe.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def embedded(payload: Mapping[str, Any]) -> str:
    """JSON that can stand inside a script element, whatever the names in it."""
    return json.dumps(payload, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
