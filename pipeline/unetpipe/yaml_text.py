"""YAML that other people wrote: no tags that build objects, no aliases that multiply, no depth that takes seconds."""

import re
from pathlib import Path
from typing import Any

import yaml

_DEEPEST = 100
_LARGEST = 2**18  # bytes: it is read a hundred times as slowly as JSON
_MOST_VALUES = 2**18  # with every alias replaced by what it stands for
_FAULTS = (yaml.YAMLError, ValueError, RecursionError)
"""What PyYAML raises of a text: ValueError of dates and numbers that are none, RecursionError of depth."""

_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)$"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?|[0-9]+[eE][-+]?[0-9]{1,3}|\.(?:inf|Inf|INF))$"
        r"|\.(?:nan|NaN|NAN)$"
    ),
}
"""YAML 1.1 takes 10:00:00 for 36000, 0123 for 83 and 2024_01 for 202401, and 1e-5 for text."""
_FIRST_SIGNS = "-+.0123456789"
_OF_YAML_1_1 = (*_NUMBERS, "tag:yaml.org,2002:timestamp")


class YamlError(ValueError):
    """A text that is no YAML, or is not read; says why in one line."""


class _Loader(yaml.SafeLoader):
    """PyYAML's, with numbers as YAML 1.2, Python and JSON write them; dates are text, as there."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML has it
        first: [(tag, pattern) for tag, pattern in known if tag not in _OF_YAML_1_1]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Dumper(yaml.SafeDumper):
    """Its counterpart, which puts text that looks like a number of either version between quotes."""


for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, list(_FIRST_SIGNS))
    _Dumper.add_implicit_resolver(_tag, _pattern, list(_FIRST_SIGNS))


def dump_yaml(value: Any) -> str:
    """Write what `parse_yaml` reads back as it was, with keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


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
        YamlError: If the text is no YAML, has tags, has a key twice, is nested deeper than 100 levels, or has aliases
            that stand for more than 262,144 values or for what they are part of.
    """
    try:
        depth = 0
        for token in yaml.scan(text):
            depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
            if depth > _DEEPEST:
                raise YamlError(f"is nested deeper than {_DEEPEST} levels")
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            if _values(root, {}) > _MOST_VALUES:
                raise YamlError(f"has aliases (*name) that stand for more than {_MOST_VALUES:,} values")
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except YamlError:
        raise
    except _FAULTS as error:
        reason = " ".join(str(error).replace('in "<byte string>", ', "in ").split())
        raise YamlError(f"is not YAML: {reason}") from error


def _values(node: yaml.Node, counted: dict[yaml.Node, int]) -> int:
    """Number of values that a node stands for when no two of them are shared.

    Raises:
        YamlError: If an alias stands for what it is part of, or a mapping has a key twice.
    """
    if node in counted:
        if not counted[node]:
            raise YamlError("has an alias (*name) that stands for what it is part of")
        return counted[node]
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if isinstance(node, yaml.MappingNode):
        _require_unique_keys(node)
    counted[node] = 0  # until all parts are counted
    parts = node.value if isinstance(node, yaml.SequenceNode) else (one for pair in node.value for one in pair)
    counted[node] = 1 + sum(_values(part, counted) for part in parts)
    return counted[node]


def _require_unique_keys(mapping: yaml.MappingNode) -> None:
    """Refuse two equal keys, of which the parser would take the second without a word.

    Raises:
        YamlError: If there are.
    """
    lines: dict[tuple[str, str], int] = {}
    for key in (key for key, _ in mapping.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE):
        name, line = (key.tag, key.value), key.start_mark.line + 1
        if name in lines:
            raise YamlError(f"has the key {key.value!r} twice, in lines {lines[name]} and {line}")
        lines[name] = line


_MERGE = "tag:yaml.org,2002:merge"
_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)
