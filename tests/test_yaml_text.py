"""Aliases of YAML are followed, unless they multiply a text."""

import pytest
import yaml

from unetpipe.yaml_text import YamlError, parse_yaml


def test_aliases_are_followed() -> None:
    """PyYAML writes what occurs twice by an alias, so that a plan which a script has changed has some."""
    kernel = [3, 3, 3]
    plan = {"kernel_sizes": [kernel] * 3, "other": {"size": kernel}}
    text = yaml.safe_dump(plan)
    assert "*id001" in text
    assert parse_yaml(text) == plan
    assert parse_yaml("base: &base {a: 1}\nown: {<<: *base, b: 2}")["own"] == {"a": 1, "b": 2}


def test_a_key_that_stands_twice_is_refused() -> None:
    """The parser would take the second, and somebody's edit of the first would be lost."""
    with pytest.raises(YamlError, match="has the key 'c' twice, in lines 2 and 3"):
        parse_yaml("a: 1\nb: {c: 1,\n c: 2}")
    assert parse_yaml("{1: a, '1': b}") == {1: "a", "1": "b"}
    assert parse_yaml("base: &base {b: 1}\nown: {<<: *base, b: 2}")["own"] == {"b": 2}


def test_nothing_is_none() -> None:
    """An empty text stands for no value."""
    assert parse_yaml("# nothing") is None


def test_aliases_that_multiply_are_refused() -> None:
    """Also those of merge keys."""
    levels = "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}" for n in range(1, 9))
    with pytest.raises(YamlError, match="stand for more than 262,144 values"):
        parse_yaml(f"a0: &a0 {{k: 1}}\n{levels}")
