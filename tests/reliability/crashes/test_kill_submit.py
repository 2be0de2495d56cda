"""`kill -9` of `submit`: no job runs that no record knows of, and the same command again runs it."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Tries = Callable[[int, int], int]
Record = Callable[..., None]
COMMAND = "UNETPIPE_RELIABILITY=full pytest tests/reliability/crashes/test_kill_submit.py"
SUBMIT = (
    "submit",
    "--cluster",
    "local",
    "--program",
    "./program",
    "evaluate",
    "labels",
    "references",
    "--out",
    "report",
)


@pytest.fixture
def start() -> Callable[[Path], None]:
    """Make a folder with a program that notes each of its runs."""

    def start(where: Path) -> None:
        where.mkdir()
        (where / "program").write_text("#!/bin/sh\necho ran >> ran.txt\n")
        (where / "program").chmod(0o755)

    return start


def _states(where: Path) -> list[str]:
    """States of the tasks of the last submission, once none of them is going on; none without a submission."""
    words = [sys.executable, "-m", "unetpipe", "submit", "--json", "status"]
    while True:
        done = subprocess.run(words, cwd=where, capture_output=True, text=True, check=False)
        if not done.stdout:
            return []
        states = [task["state"] for task in json.loads(done.stdout)["tasks"]]
        if not {"pending", "running"} & set(states):
            return states
        time.sleep(0.1)


def _runs(where: Path) -> int:
    return len((where / "ran.txt").read_text().splitlines()) if (where / "ran.txt").exists() else 0


def _judge(forks: Any, where: Path) -> list[str]:
    """What is wrong after a kill: in what is on record, and after the same command."""
    states, runs = _states(where), _runs(where)
    wrong = [] if runs == states.count("completed") else [f"{runs} runs, but the tasks are {states}"]
    again = forks.run(where, *SUBMIT)
    wrong += [] if again.codes == (0,) else [f"again: codes {again.codes}: {again.said[-600:]}"]
    states = _states(where)
    return wrong + ([] if states == ["completed"] and _runs(where) == runs + 1 else [f"again: {states}"])


def test_submit(forks: Any, tries: Tries, record_fault: Record, start: Any, tmp_path: Path) -> None:
    """Kills before a change of a file, each of which is another state that a submission can be left in."""
    start(tmp_path / "calm")
    calm = forks.run(tmp_path / "calm", *SUBMIT)
    assert (calm.codes, _states(tmp_path / "calm"), _runs(tmp_path / "calm")) == ((0,), ["completed"], 1), calm.said
    draws = random.Random(6)
    kills = tries(2, 12)
    lost = hung = 0
    for number, event in enumerate(draws.choices(range(1, calm.events + 1), k=kills)):
        where = tmp_path / f"try_{number}"
        start(where)
        ended = forks.run(where, *SUBMIT, events=event)
        assert ended.codes == (-9,), ended.said
        wrong = _judge(forks, where)
        for line in wrong:
            print(f"before change {event}: {line}")
        lost += bool(wrong)
        hung += ended.hung
    record_fault(
        "kill -9 while submitting",
        tried=kills,
        lost=lost,
        hung=hung,
        outcome="no job runs that no record knows of; the same command again submits it",
        command=COMMAND,
    )
