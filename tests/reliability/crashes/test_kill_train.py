"""`kill -9` of training, alone and as two processes: the same command again ends with the same bits."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Crash = Callable[..., Any]
Tries = Callable[[int, int], int]
Record = Callable[..., None]
COMMAND = "UNETPIPE_RELIABILITY=full pytest tests/reliability/crashes"
TRAIN = ("train", "work", "--fold", "0", "--epochs", "3", "--iterations", "2", "--device", "cpu")
_MEASURED = {"seconds", "patches_per_second", "data_wait", "memory_gb", "system"}


@pytest.fixture
def start(balls: Path, balls_work: Path, tmp_path: Path) -> Callable[[Path], object]:
    """Begin in a fresh work folder, from which the dataset is where the manifest says."""
    (tmp_path / balls.name).symlink_to(balls)
    return lambda where: shutil.copytree(balls_work, where / "work")


@pytest.fixture
def trained(contents: Any) -> Callable[[Path], dict[str, Any]]:
    """Read the bytes of a run: weights, configs, card, curves, labels; of its journal all but what was measured.

    Checkpoints hold how long the run has taken, and how many there are depends on when it was killed.
    """

    def read(where: Path) -> dict[str, Any]:
        run = where / "work" / "runs" / "default" / "fold_0"
        files: dict[str, Any] = contents(run, "*.jsonl", "README.md", "metadata.json")
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        files["metrics.jsonl"] = [{key: row[key] for key in row.keys() - _MEASURED} for row in rows]
        return {name: content for name, content in files.items() if not name.startswith("checkpoint")}

    return read


@pytest.mark.parametrize(
    ("ranks", "fault"), [(1, "kill -9 while training"), (2, "kill -9 of one of two processes that train together")]
)
def test_train(
    crash: Crash,
    tries: Tries,
    record_fault: Record,
    start: Any,
    trained: Any,
    ranks: int,
    fault: str,
) -> None:
    """The other process ends by itself, within the limit of time."""
    found = crash(
        [*TRAIN, "--tracking", "none", *(["--gpus", ranks] if ranks > 1 else [])],
        kills=tries(2, 12) if ranks == 1 else tries(1, 6),
        start=start,
        read=trained,
        seed=5 + ranks,
        ranks=ranks,
    )
    print(*found.reports, sep="\n")
    record_fault(
        fault,
        tried=found.killed,
        lost=found.lost,
        hung=found.hung,
        outcome="the same command goes on after the last epoch, and weights and labels have the same bits",
        command=COMMAND,
    )


def test_a_tracked_training(crash: Crash, tries: Tries, record_fault: Record, start: Any, monkeypatch: Any) -> None:
    """The store in the work folder has one finished run, with each point of its curves once."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def tracked(where: Path) -> dict[str, Any]:
        with sqlite3.connect(where / "work" / "mlflow.db") as store:
            rows = store.execute(
                "SELECT key, step, count(*) FROM metrics JOIN runs USING (run_uuid) WHERE status = 'FINISHED' "
                "AND key IN ('loss', 'learning_rate') GROUP BY runs.run_uuid, key, step ORDER BY key, step"
            )
            return {"points": rows.fetchall(), "left": sorted((where / "work").glob(".tmp-*"))}

    found = crash(TRAIN, kills=tries(1, 6), start=start, read=tracked, seed=9)
    print(*found.reports, sep="\n")
    record_fault(
        "kill -9 while training, tracked in a file",
        tried=found.killed,
        lost=found.lost,
        hung=found.hung,
        outcome="the run in the store ends FINISHED, with each point of its curves once",
        command=COMMAND,
    )
