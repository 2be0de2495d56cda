"""Write what every command's --help says into docs/cli.md, between the lines that ask for it: `make docs`."""

import re
from pathlib import Path

from typer.testing import CliRunner

from unetpipe.cli import app

PAGE = Path(__file__).with_name("cli.md")
_WIDTH = 100
_BLOCK = re.compile(r"```console\n\$ unetpipe (?P<command>[a-z ]*)--help\n.*?```", re.DOTALL)


def refreshed(page: str) -> str:
    """The page with every help block as the commands print it now."""
    return _BLOCK.sub(lambda found: _block(found["command"].split()), page)


def commands_shown(page: str) -> list[str]:
    """Commands that have a help block; the empty string is unetpipe itself."""
    return [found["command"].strip() for found in _BLOCK.finditer(page)]


def _block(command: list[str]) -> str:
    words = [*command, "--help"]
    shown = CliRunner().invoke(app, words, prog_name="unetpipe", terminal_width=_WIDTH, env={"COLUMNS": str(_WIDTH)})
    lines = "\n".join(line.rstrip() for line in shown.output.strip().splitlines())
    return f"```console\n$ unetpipe {' '.join(words)}\n{lines}\n```"


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
