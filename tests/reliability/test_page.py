"""docs/reliability.md says what `make reliability` found, and SECURITY.md which test holds which boundary."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _record(**counts: int) -> dict[str, Any]:
    row = {"tried": 1200, "lost": 0, "hung": 0, "executed": 0, "leaked": 0, **counts}
    rows = [{"fault": fault, **row, "outcome": "one line", "command": "make fuzz"} for fault in ("first", "second")]
    return {"date": "2026-11-26", "machine": "2 cores", "versions": {"Python": "3.11"}, "rows": rows}


def test_the_table_has_each_fault_and_their_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its marks the page gets a row for each fault and a last one with the sums; nothing else changes."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    from refresh_reliability import refreshed

    page = "above\n<!-- table: make reliability -->\nold\n<!-- end of table -->\nbelow\n"
    made = refreshed(page, _record(lost=1))
    assert made.startswith("above\n<!-- table")
    assert made.endswith("<!-- end of table -->\nbelow\n")
    assert "| second | 1,200 | 1 | 0 | 0 | 0 | one line | `make fuzz` |" in made
    assert "| **all** | **2,400** | **2** | **0** | **0** | **0** |  | `make reliability` |" in made
    assert refreshed(made, _record(lost=1)) == made


def test_a_count_that_is_not_zero_fails(record_fault: Any, fault_rows: list[Any]) -> None:
    """A fault whose loss is recorded fails the test that recorded it; nothing can be recorded that was not tried."""
    with pytest.raises(AssertionError, match="'lost': 2"):
        record_fault("something lost on purpose", tried=3, lost=2, outcome="", command="")
    assert fault_rows.pop()["lost"] == 2
    with pytest.raises(AssertionError, match="was not tried"):
        record_fault("nothing", tried=0, outcome="", command="")


def test_pages_name_tests_that_exist() -> None:
    """Every test that SECURITY.md and docs/reliability.md name is there, and every row of SECURITY.md names one."""
    security, page = (ROOT / name for name in ("SECURITY.md", "docs/reliability.md"))
    named = [one for file in (security, page) for one in re.findall(r"`(tests/\S+?\.py)::(\w+)`", file.read_text())]
    assert len(named) > 20
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]
    assert missing == []
    rows = re.findall(r"^\| (?!comes from|---).*$", security.read_text(), re.MULTILINE)
    assert rows
    assert [row for row in rows if "::" not in row] == []
