"""One option followed by several pairs."""

import pytest
from typer.testing import CliRunner

from unetpipe.cli import app
from unetpipe.cli.pairs import with_repeated_flags


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["--labels", "a=1-3", "b=4", "data"], ["--labels", "a=1-3", "--labels", "b=4", "data"]),
        (["data", "--labels", "a=1", "--out", "w=x"], ["data", "--labels", "a=1", "--out", "w=x"]),
        (["--labels", "a=1", "data", "b=2"], ["--labels", "a=1", "data", "b=2"]),
        (["x=y", "--labels", "a=1"], ["x=y", "--labels", "a=1"]),
    ],
)
def test_further_pairs_get_the_option_before_them(typed: list[str], read: list[str]) -> None:
    """Pairs that follow an option's first pair belong to it; any other word ends the list."""
    assert list(with_repeated_flags(typed, {"--labels"})) == read


@pytest.mark.parametrize("words", [["models", "lst"], ["train", "work", "--precision", "fp33"]])
def test_a_word_that_is_no_choice_is_named_first(words: list[str]) -> None:
    """With the choices, and with no words of a library before it."""
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert f": '{words[-1]}' is not one of '" in result.output
