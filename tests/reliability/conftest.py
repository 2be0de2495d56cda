"""How often a fault is tried, and the rows of the table in docs/reliability.md.

`make test` tries a few of each, `make reliability` all of them: it sets UNETPIPE_RELIABILITY=full.
"""

import fcntl
import json
import os
import platform
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

RECORD = Path(__file__).parents[2] / "build" / "reliability.json"
_FULL = os.environ.get("UNETPIPE_RELIABILITY") == "full"
_COUNTS = ("lost", "hung", "executed", "leaked")


@pytest.fixture(scope="session")
def tries() -> Callable[[int, int], int]:
    """How often to try a fault: the first number in `make test`, the second in `make reliability`."""
    return lambda quick, full: full if _FULL else quick


@pytest.fixture(scope="session")
def fault_rows() -> Iterator[list[dict[str, Any]]]:
    """Rows of this session; those of a full run take the place of earlier ones of the same faults."""
    rows: list[dict[str, Any]] = []
    yield rows
    if _FULL and rows:
        _write(rows)


@pytest.fixture
def record_fault(fault_rows: list[dict[str, Any]], request: pytest.FixtureRequest) -> Callable[..., None]:
    """Record a fault that was tried, then fail if one of its four counts is not 0.

    Args (all but the first by name):
        fault: What was done, such as "kill -9 while training"; one row of the table, so no other has the same.
        tried: How often.
        lost: Cases whose result is missing, wrong or half-written after it.
        hung: Commands that did not end within their limit of time.
        executed: Inputs whose code was run.
        leaked: Resources that stayed behind or grew, writes outside the output folder, identifying texts.
        outcome: What happens instead, for a reader of the table.
        command: What repeats it.
    """

    def record(
        fault: str,
        *,
        tried: int,
        lost: int = 0,
        hung: int = 0,
        executed: int = 0,
        leaked: int = 0,
        outcome: str,
        command: str,
    ) -> None:
        assert tried > 0, f"{fault}: was not tried"
        assert fault not in {row["fault"] for row in fault_rows}, f"{fault}: is recorded twice"
        counts = dict(zip(_COUNTS, (lost, hung, executed, leaked), strict=True))
        fault_rows.append(
            {
                "fault": fault,
                "tried": tried,
                **counts,
                "outcome": outcome,
                "command": command,
                "test": request.node.nodeid,
            }
        )
        assert not any(counts.values()), f"{fault}, tried {tried} times: {counts}"

    return record


def _write(rows: list[dict[str, Any]]) -> None:
    RECORD.parent.mkdir(exist_ok=True)
    with RECORD.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # several calls of pytest may end at the same time
        file.seek(0)
        text = file.read()
        before = json.loads(text)["rows"] if text else []
        merged = {row["fault"]: row for row in [*before, *rows]}
        file.truncate(0)
        file.write(json.dumps(_document(list(merged.values())), indent=1) + "\n")


def _document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, {platform.system()}",
        "versions": {
            "Python": platform.python_version(),
            **{name: version(name) for name in ("unetpipe", "torch", "monai")},
        },
        "rows": sorted(rows, key=lambda row: str(row["test"]).split("::")[0]),
    }
