"""The docs say what is there: every command and option, links that lead somewhere, commands that parse."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from types import ModuleType

import pytest

from unetpipe.cli import app
from unetpipe.cli.app import _CONFIGS
from unetpipe.cli.options import ConfigError
from unetpipe.cli.parse import check_command

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "data/README.md", ROOT / "bundles/README.md"])


@pytest.fixture(scope="module")
def refresh() -> ModuleType:
    """docs/refresh_cli.py."""
    spec = importlib.util.spec_from_file_location("refresh_cli", ROOT / "docs" / "refresh_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _shell_commands(page: Path) -> Iterator[list[str]]:
    """Lines of ``sh`` blocks that call unetpipe, as words up to a redirection; continued lines joined."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = list(takewhile(lambda word: not set(word) <= set("();<>|&"), lexer))
            if words[:1] == ["unetpipe"]:
                yield words[1:]


def test_every_command_and_option_is_documented(refresh: ModuleType) -> None:
    """docs/cli.md holds the help of every command, as it is now; `make docs` brings it up to date."""
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert refresh.commands_shown(page) == ["", *_CONFIGS]
    assert refresh.refreshed(page) == page, "docs/cli.md is behind the code: run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that is there."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_can_be_copied(page: Path) -> None:
    """Every `unetpipe ...` line that a person may copy names a command and options that exist, with valid values."""
    for words in _shell_commands(page):
        assert words[0] in _CONFIGS
        if words[0] in ("demo", "info"):
            continue
        try:
            check_command(app, _CONFIGS, words)
        except (ConfigError, SystemExit) as error:
            pytest.fail(f"unetpipe {shlex.join(words)}: {error}")


def test_the_readme_opens_with_the_two_commands() -> None:
    """`make demo` and `make test` stand before anything else that can be run."""
    first = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first.group(1).splitlines()] == ["make demo", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_exist(page: Path) -> None:
    """Every `make TARGET` in the docs is a target."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", page.read_text(encoding="utf-8")))
    assert named <= targets
