"""Memory, threads and open files do not grow over a long run."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "long_runs"
MOST = 0.02  # of its memory, that a run may grow by over its second half: allocators keep what falls between two blocks
KINDS = {
    "train": "2,000 optimiser steps, 20 validations, MLflow",
    "predict": "500 arrays through one Predictor",
    "infer": "500 files through one infer",
    "listen": "200 studies through listen",
}


@pytest.fixture
def long_runs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/long_runs.py."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import long_runs

    return long_runs


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_run_stays_flat(
    kind: str, long_runs: ModuleType, tries: Callable[[int, int], int], record_fault: Callable[..., None]
) -> None:
    """After its first half a run takes no more memory; after its first quarter no more threads and files."""
    if not tries(0, 1):
        pytest.skip("takes minutes: `make reliability`")
    command = ["benchmarks/long_runs.py", kind, "--out", "build/long_runs"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = json.loads((OUT / f"{kind}.json").read_text())
    grown = long_runs.growth(run["samples"])
    more = [long_runs.more_of(run["samples"], column) for column in (2, 3)]
    share = grown / run["samples"][len(run["samples"]) // 2][1]
    leaks = (share > MOST, more[0] > 0, more[1] > 0)
    record_fault(
        f"a long run: {KINDS[kind]}",
        tried=run["count"],
        leaked=sum(leaks),
        outcome=f"over the second half {grown:+.1f} MB ({share:+.1%}), {more[0]:+d} threads, {more[1]:+d} open files",
        command=f"python {' '.join(command)}",
    )


def test_predictions_leave_no_threads_and_files(bundle_folder: Path, long_runs: ModuleType) -> None:
    """The same, for a few scans in memory: so few that memory still warms up, but no thread and no file stays."""
    from unetpipe import Predictor

    predictor, watch = Predictor(bundle_folder, device="cpu"), long_runs.Watch(16)
    for number in range(1, 17):
        predictor.predict(np.full((18, 20, 16), number, np.float32) + np.eye(16, dtype=np.float32)[:1], np.eye(4))
        watch.done(number)
    assert len(watch.samples) == 16
    assert [long_runs.more_of(watch.samples, column) for column in (2, 3)] == [0, 0]


def _run(each_mb: float, count: int = 500) -> list[tuple[int, float, int, int]]:
    """A run that warms up, jumps about, and keeps so much of each item."""
    noise = np.random.default_rng(0).normal(0, 4, count)
    warm = 300 * (1 - np.exp(-np.arange(count) / 40))
    peaks = 60 * (np.arange(count) % 37 == 0)
    return [(n + 1, 500 + warm[n] + noise[n] + peaks[n] + each_mb * n, 12, 30) for n in range(count)]


def test_the_criterion_sees_a_leak_and_no_noise(long_runs: ModuleType) -> None:
    """100 kB of each scan are seen among noise and peaks many times as large; noise and peaks alone are not a leak."""
    assert abs(long_runs.growth(_run(0))) < 800 * MOST / 2
    leak = long_runs.growth(_run(0.1))
    assert leak == pytest.approx(25, abs=4)
    assert leak > 800 * MOST
    rows = _run(0)
    assert long_runs.more_of(rows, 2) == long_runs.more_of(rows, 3) == 0
    leaking = [(n, memory, threads + n // 100, files) for n, memory, threads, files in rows]
    assert long_runs.more_of(leaking, 2) == 2
