"""Progress of long work, for any display.

Stages take a `Progress`; the command line passes one that draws, everybody else the silent default. What is worth a
line of text is not progress: it is logged, under the logger `unetpipe`.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

log = logging.getLogger(__name__)


class Advance(Protocol):
    """Called once per finished step."""

    def __call__(self, steps: int = 1, *, note: str = "") -> None: ...


class Progress(Protocol):
    """Shows named tasks of a known number of steps, and a board of figures that are renewed."""

    def task(self, name: str, total: int) -> AbstractContextManager[Advance]: ...

    def board(self, rows: Sequence[Sequence[str]], line: str) -> None:
        """Show rows of cells in place of those before; where nothing can be renewed in place, log `line`."""


class SilentProgress:
    """Draws nothing: the default for library use."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Advance]:  # noqa: ARG002 - the protocol's signature
        def advance(steps: int = 1, *, note: str = "") -> None: ...

        yield advance

    def board(self, rows: Sequence[Sequence[str]], line: str) -> None:  # noqa: ARG002 - the protocol's signature
        """Log the line."""
        log.info(line)
