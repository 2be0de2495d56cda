"""YAML that other people wrote: no tags that build objects, no aliases, no depth that takes seconds to parse."""

from pathlib import Path
from typing import Any

import yaml

_DEEPEST = 100
_LARGEST = 2**18  # bytes: it is read a hundred times as slowly as JSON


FAULTS = (yaml.YAMLError, ValueError, RecursionError)
"""What PyYAML raises of a text: ValueError of dates and numbers that are none, RecursionError of depth."""


class YamlError(ValueError):
    """A text that is no YAML, or is not read; says why in one line."""


def read_yaml(path: Path) -> Any:
    """Parse a file.

    Raises:
        YamlError: If it cannot be read, is larger than 256 KiB, or as `parse_yaml`.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise YamlError(f"has {path.stat().st_size:,} bytes, more than the {_LARGEST:,} that are read")
        return parse_yaml(path.read_bytes())
    except OSError as error:
        raise YamlError(f"cannot be read: {error.strerror}") from error


def parse_yaml(text: str | bytes) -> Any:
    """Parse a text.

    The time that the parser takes grows with the square of the depth, and a short text of aliases may stand for a long
    one, so that both are looked for first.

    Raises:
        YamlError: If the text is no YAML, has aliases or tags, or is nested deeper than 100 levels.
    """
    try:
        depth = 0
        for token in yaml.scan(text):
            if isinstance(token, yaml.AliasToken):
                raise YamlError("has aliases (*name), which are not followed")
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > _DEEPEST:
                raise YamlError(f"is nested deeper than {_DEEPEST} levels")
        return yaml.safe_load(text)
    except YamlError:
        raise
    except FAULTS as error:
        reason = " ".join(str(error).replace('in "<byte string>", ', "in ").split())
        raise YamlError(f"is not YAML: {reason}") from error


_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
