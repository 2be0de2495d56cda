"""The documentation site builds, and needs nothing but itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# what a browser would fetch to show a page; links that a reader may follow are no part of it
_FETCHED = re.compile(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"https?:|<link\b[^>]*rel=\"stylesheet\"[^>]*href=\"https?:")


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    """Strictly: a link, an anchor or an object that is not there fails. No page asks another host for anything."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert {"api", "cli", "extending", "glossary"} <= {page.parent.name for page in pages}
    assert [page for page in pages if _FETCHED.search(page.read_text(encoding="utf-8"))] == []


def test_a_notebook_becomes_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text stays as it is, code has a block, and what it printed or drew stands below it."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    from site_pages import markdown_of

    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": ["1 + 1"], "outputs": [{"data": {"text/plain": ["2"]}}]},
        {
            "cell_type": "code",
            "source": ["draw()"],
            "outputs": [{"data": {"image/png": "aGk=\n", "text/plain": "<F>"}}],
        },
    ]
    assert markdown_of({"cells": cells}) == (
        "# Title\ntext\n\n```python\n1 + 1\n```\n\n```text\n2\n```\n\n"
        "```python\ndraw()\n```\n\n![](data:image/png;base64,aGk=)\n"
    )
