"""How long work tells that it goes on, without knowing who listens.

Stages take a `Progress`; the command line passes one that draws, everybody else the silent default.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Called once per finished step."""

    def __call__(self, steps: int = 1, *, note: str = "") -> None: ...


class Progress(Protocol):
    """Shows named tasks of a known number of steps, single lines of news, and a board of figures that are renewed."""

    def task(self, name: str, total: int) -> AbstractContextManager[Advance]: ...

    def say(self, line: str) -> None: ...

    def board(self, rows: Sequence[Sequence[str]], line: str) -> None:
        """Show rows of cells in place of those before; where nothing can be renewed in place, say `line`."""


class SilentProgress:
    """Shows nothing: the default for library use."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Advance]:  # noqa: ARG002 - the protocol's signature
        def advance(steps: int = 1, *, note: str = "") -> None: ...

        yield advance

    def say(self, line: str) -> None: ...

    def board(self, rows: Sequence[Sequence[str]], line: str) -> None:  # noqa: ARG002 - the protocol's signature
        """Say the line."""
        self.say(line)
