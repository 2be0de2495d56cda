"""Several pairs after one option: ``--labels myelin=126-130 axon=233-255`` is ``--labels`` given twice."""

from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from unetpipe.documents import in_own_words


class CommandWithPairs(TyperCommand):
    """A command whose options of the form KEY=VALUE take one pair or several."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give each pair its option before the arguments of a context are read (typer brings its own click)."""
        flags = {flag for option in self.params if option.metavar == "KEY=VALUE" for flag in option.opts}
        try:
            return super().parse_args(ctx, list(with_repeated_flags(args, flags)))
        except typer.BadParameter as error:  # typer reads choices by pydantic
            error.message = in_own_words(error.message)
            raise


def with_repeated_flags(words: Sequence[str], flags: set[str]) -> Iterator[str]:
    """Yield the words of a command line with the option repeated before every further pair.

    Args:
        words: Arguments that were typed after the command's name.
        flags: Options that take pairs.
    """
    flag, has_value = "", False
    for word in words:
        if word.startswith("-"):
            flag, has_value = (word if word in flags else ""), False
        elif flag and not has_value:
            has_value = True
        elif flag and "=" in word:
            yield flag
        else:
            flag = ""
        yield word
