"""How long work tells that it goes on, without knowing who listens.

Stages take a `Progress`; the command line passes one that draws, everybody else the silent default.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Called once per finished step."""

    def __call__(self, steps: int = 1, *, note: str = "") -> None: ...


class Progress(Protocol):
    """Shows named tasks of a known number of steps, and single lines of news."""

    def task(self, name: str, total: int) -> AbstractContextManager[Advance]: ...

    def say(self, line: str) -> None: ...


class SilentProgress:
    """Shows nothing: the default for library use."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Advance]:  # noqa: ARG002 - the protocol's signature
        def advance(steps: int = 1, *, note: str = "") -> None: ...

        yield advance

    def say(self, line: str) -> None: ...
