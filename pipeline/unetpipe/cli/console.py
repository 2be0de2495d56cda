"""What a person sees while a command works, and at its end.

Progress and what the library logs go to stderr: bars on a terminal, elsewhere only the lines of the log. The result
goes to stdout.
"""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from unetpipe.progress import Advance

_LISTED = 5  # of many paths or names, so many are shown
_WIDTH_IN_A_FILE = 120
_LONGEST_STEP_S = 7200.0  # span of steps from which the remaining time is estimated: a hundredth of a training is long


log = logging.getLogger(__name__)


class _Bars(Progress):
    """Bars, with a board above them once there is one."""

    board: Table | None = None

    def get_renderables(self) -> Iterator[RenderableType]:
        """The lines that are drawn, from top to bottom."""
        if self.board is not None:
            yield self.board
        yield self.make_tasks_table(self.tasks)


class ConsoleProgress:
    """Bars and a board on a terminal, nothing elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: _Bars | None = None

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Advance]:
        """Show a bar until left. A task within another shows below it and goes when it is done."""
        outermost = self._bars is None
        bars = self._bars if self._bars is not None else self._new_bars()
        self._bars = bars
        bar = bars.add_task(name, total=total, note="")

        def advance(steps: int = 1, *, note: str = "") -> None:
            bars.advance(bar, steps)
            if note:
                bars.update(bar, note=note)

        try:
            if outermost:
                bars.start()
            yield advance
        finally:
            if outermost:
                self._bars = None
                bars.stop()
            else:
                bars.remove_task(bar)

    def board(self, rows: Sequence[Sequence[str]], line: str) -> None:
        """Draw the rows above the bars of the task that is running; elsewhere than on a terminal, log the line."""
        if self._bars is None or not self._console.is_terminal:
            log.info(line)
            return
        table = Table.grid(padding=(0, 2))
        for row in rows:
            table.add_row(*map(Text, row))
        self._bars.board = table

    def _new_bars(self) -> _Bars:
        return _Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=self._console,
            speed_estimate_period=_LONGEST_STEP_S,
            disable=not self._console.is_terminal,
        )


class _ConsoleLog(logging.Handler):
    """Prints each record as a line of its own, above the bars where there are any."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message, without level or time: it is for a person who waits."""
        self._console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def shown_on_stderr(console: Console | None = None) -> Iterator[ConsoleProgress]:
    """Print what the package logs, from level INFO on, until left; gives the progress that draws beside it."""
    console = console or Console(stderr=True)
    package, handler = logging.getLogger("unetpipe"), _ConsoleLog(console)
    level, propagates = package.level, package.propagate
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False  # a library that gives the root logger a handler would print every line twice
    try:
        yield ConsoleProgress(console)
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        package.propagate = propagates


def show(result: BaseModel, console: Console | None = None) -> None:
    """Print the result of a stage for a person: single values as a list, models and mappings as tables."""
    console = console or Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_IN_A_FILE)
    values = [(_spaced(name), getattr(result, name)) for name in type(result).model_fields]
    plain = Table.grid(padding=(0, 2))
    for name, value in values:
        if not _is_table(value) and not _is_drawing(value) and value not in (None, "", (), {}):
            plain.add_row(name, _text(value))
    if plain.row_count:
        console.print(plain, markup=False)
    for _name, value in values:
        if _is_drawing(value):
            console.print(f"\n{value}", markup=False, soft_wrap=True)
    for name, value in values:
        if _is_table(value):
            console.print(_table(name, value), markup=False)


def _is_drawing(value: Any) -> bool:
    return isinstance(value, str) and "\n" in value


def _is_table(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], BaseModel)


def _table(title: str, value: Any) -> Table:
    """A mapping's keys go into the first column; models have a column per field, other values one column."""
    keys = [str(key) for key in value] if isinstance(value, Mapping) else None
    rows = list(value.values()) if isinstance(value, Mapping) else list(value)
    fields = list(type(rows[0]).model_fields) if isinstance(rows[0], BaseModel) else []
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_header=bool(fields))
    if keys is not None:
        table.add_column("")
    for name in fields:  # the first one names its row, and a name must not be cut
        justify: JustifyMethod = "right" if _is_number(getattr(rows[0], name)) else "left"
        table.add_column(_spaced(name), justify=justify, overflow="fold", no_wrap=name == fields[0])
    for index, row in enumerate(rows):
        cells = [_text(getattr(row, name)) for name in fields] if fields else [_text(row)]
        table.add_row(*([keys[index]] if keys is not None else []), *cells)
    return table


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if 0.1 <= abs(value) < 1 else f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [_text(item) for item in value[:_LISTED]]
        more = [f"… ({len(value)})"] if len(value) > _LISTED else []
        return ("\n" if any(" " in item for item in items) else ", ").join(items + more)
    return str(value)
