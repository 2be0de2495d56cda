"""Write what the last `make reliability` tried into docs/reliability.md, between the lines that ask for it."""

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("reliability.md")
RECORD = PAGE.parents[1] / "build" / "reliability.json"
COUNTS = ("tried", "lost", "hung", "executed", "leaked")
_BLOCK = re.compile(r"(?<=<!-- table: make reliability -->\n).*?(?=<!-- end of table -->)", re.DOTALL)


def refreshed(page: str, record: dict[str, Any]) -> str:
    """The page with the table of a record: a row for each fault, then their sums."""
    return _BLOCK.sub(lambda _: _table(record), page)


def _table(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    rows = [
        [row["fault"], *(row[count] for count in COUNTS), row["outcome"], f"`{row['command']}`"]
        for row in record["rows"]
    ]
    sums = [f"**{sum(row[count] for row in record['rows']):,}**" for count in COUNTS]
    lines = [
        f"{record['date']}, {record['machine']}; {versions}.",
        "",
        _line(["fault", *COUNTS, "outcome", "repeated by"]),
        _line(["---", *["---:"] * len(COUNTS), "---", "---"]),
        *map(_line, rows),
        _line(["**all**", *sums, "", "`make reliability`"]),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: list[Any]) -> str:
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    text = refreshed(PAGE.read_text(encoding="utf-8"), json.loads(RECORD.read_text(encoding="utf-8")))
    PAGE.write_text(text, encoding="utf-8")
