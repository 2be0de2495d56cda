"""Aliases of YAML are followed, unless they multiply a text."""

import math

import pytest
import yaml

from unetpipe.yaml_text import YamlError, dump_yaml, parse_yaml


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


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("1E5", 1e5), ("1.5e3", 1500.0), ("-.5e+1", -5.0), ("1e", "1e"), ("e5", "e5"), ("0x1e5", 0x1E5)],
)
def test_numbers_have_exponents(text: str, value: float | str) -> None:
    """As Python and JSON write them, without the point and the sign that YAML 1.1 wants."""
    assert parse_yaml(text) == value
    assert parse_yaml(f"{{a: [{text}]}}") == {"a": [value]}


@pytest.mark.parametrize(
    "word", ["10:00:00", "16:00", "0123", "2024_01", "1_0.5", "0b11", "190:20:30.15", "2026-12-01"]
)
def test_numbers_of_yaml_1_1_alone_are_text(word: str) -> None:
    """A time, an account and a date stay the words that they are, and other programs get them between quotes."""
    assert parse_yaml(word) == word
    assert yaml.safe_load(dump_yaml([word])) == [word]


def test_text_that_looks_like_a_number_is_written_as_text() -> None:
    """The name of a run in a config that is given again."""
    values = {
        "run_name": "1e5",
        "rate": 1e-5,
        "fold": 0,
        "seed": "12",
        "alpha": "1e",
        "beta": "+.5",
        "least": -math.inf,
    }
    assert parse_yaml(dump_yaml(values)) == values
    assert list(parse_yaml(dump_yaml(values))) == list(values)
