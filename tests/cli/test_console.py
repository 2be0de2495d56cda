"""What a person sees is short, complete, and does not mix with what a script reads."""

import io
import logging
from pathlib import Path

import pytest
from pydantic import BaseModel
from rich.console import Console

from unetpipe.cli.console import ConsoleProgress, show, shown_on_stderr
from unetpipe.config.base import Config

log = logging.getLogger("unetpipe.stages")


class Row(Config):
    """A class's figures."""

    name: str
    dice: float | None


class Outcome(Config):
    """A stage's result."""

    out: Path = Path("labels")
    passed: bool = False
    cases: int = 12
    loss: float = 0.25
    small: float = 0.0015
    tiny: float = 2e-6
    nothing: None = None
    empty: tuple[str, ...] = ()
    many: tuple[int, ...] = tuple(range(9))
    reasons: tuple[str, ...] = ("liver is low", "spleen is low")
    classes: tuple[Row, ...] = (Row(name="liver", dice=0.9), Row(name="spleen", dice=None))
    labels: dict[int, str] = {1: "liver", 3: "spleen"}  # noqa: RUF012 - pydantic copies it


def _shown(result: BaseModel) -> list[str]:
    file = io.StringIO()
    show(result, Console(file=file, width=100))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def _console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=100), file


def test_single_values_are_a_list() -> None:
    """Each value has a line with its name in words; what is empty has none; long lists end in their length."""
    lines = [" ".join(line.split()) for line in _shown(Outcome())]
    for line in ("out labels", "passed no", "cases 12", "loss 0.250", "tiny 2e-06", "many 0, 1, 2, 3, 4, … (9)"):
        assert line in lines
    assert not any(line.startswith(("nothing", "empty")) for line in lines)


def test_small_values_keep_their_digits() -> None:
    """Voxels of 1.5 µm are no 0.002 mm."""
    assert "small 0.0015" in [" ".join(line.split()) for line in _shown(Outcome())]


def test_sentences_have_a_line_each() -> None:
    """Several reasons stand below each other."""
    lines = _shown(Outcome())
    first = next(index for index, line in enumerate(lines) if line.startswith("reasons"))
    assert lines[first].split(maxsplit=1)[1] == "liver is low"
    assert lines[first + 1].strip() == "spleen is low"


def test_models_and_mappings_are_tables() -> None:
    """A sequence of models has a column per field, a mapping its keys in front; what is not known is a dash."""
    rows = [line.split() for line in _shown(Outcome())]
    for row in (["name", "dice"], ["liver", "0.900"], ["spleen", "-"], ["1", "liver"], ["3", "spleen"]):
        assert row in rows


def test_names_are_shown_as_they_are() -> None:
    """Brackets in a class's name or in a reason are no markup."""
    result = Outcome(labels={1: "kidney [left]"}, reasons=("expected [/b], got [red]",))
    text = "\n".join(_shown(result))
    assert "kidney [left]" in text
    assert "expected [/b], got [red]" in text


def test_progress_is_quiet_in_a_file() -> None:
    """Where stderr is no terminal only the lines of the log are written, as they are."""
    console, file = _console(terminal=False)
    with shown_on_stderr(console) as progress, progress.task("infer", 2) as advance:
        advance(note="case_1")
        log.warning("[%s] failed: out of memory", "case_2")
        advance()
    assert file.getvalue() == "[case_2] failed: out of memory\n"


def test_the_log_is_shown_for_as_long_as_a_command_runs(caplog: pytest.LogCaptureFixture) -> None:
    """Lines go to the console once, and to nobody else; afterwards logging is as it was, for whoever sets it up."""
    console, file = _console(terminal=False)
    package = logging.getLogger("unetpipe")
    before = (package.level, package.propagate, list(package.handlers))
    with shown_on_stderr(console):
        log.info("news")
        log.debug("details")
    assert file.getvalue() == "news\n"
    assert caplog.messages == []
    assert (package.level, package.propagate, list(package.handlers)) == before


def test_lines_stand_above_the_bars_on_a_terminal() -> None:
    """A line logged while bars are drawn is printed whole, and the bars are drawn again below it."""
    console, file = _console(terminal=True)
    with shown_on_stderr(console) as progress, progress.task("train", 1) as advance:
        log.info("epoch 1: loss 0.5")
        advance()
    assert "1/1" in file.getvalue().rsplit("epoch 1: loss 0.5", 1)[1]


def test_progress_draws_on_a_terminal() -> None:
    """On a terminal the task is drawn with its count and its last note, and one within another goes when it is done."""
    console, file = _console(terminal=True)
    progress = ConsoleProgress(console)
    with progress.task("train", 3) as advance:
        with progress.task("epoch 1", 10) as step:
            step(10)
        advance(2, note="case_7")
    last = file.getvalue().rsplit("train", 1)[1]
    assert "2/3" in last
    assert "case_7" in last
    assert "epoch 1" not in last


def test_a_board_is_renewed_on_a_terminal_and_a_line_elsewhere() -> None:
    """On a terminal the last rows stand above the bars, taken as they are; a file gets the lines."""
    console, file = _console(terminal=True)
    progress = ConsoleProgress(console)
    with progress.task("training", 2):
        progress.board([("loss", "0.5", "[▁]")], "epoch 1: loss 0.5")
        progress.board([("loss", "0.4", "[█]")], "epoch 2: loss 0.4")
    drawn = file.getvalue()
    assert "0.4  [█]" in drawn.rsplit("loss", 1)[1]
    assert "epoch" not in drawn
    console, file = _console(terminal=False)
    with shown_on_stderr(console) as progress, progress.task("training", 2):
        progress.board([("loss", "0.5", "[▁]")], "epoch 1: loss 0.5")
    assert file.getvalue() == "epoch 1: loss 0.5\n"


def test_progress_can_be_used_again() -> None:
    """After a task is over, another one starts afresh; an error in between leaves nothing drawn."""
    console, file = _console(terminal=True)
    progress = ConsoleProgress(console)
    try:
        with progress.task("first", 1):
            raise ValueError
    except ValueError:
        pass
    with progress.task("second", 1) as advance:
        advance()
    assert "1/1" in file.getvalue().rsplit("second", 1)[1]
