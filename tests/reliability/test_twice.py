"""The whole pipeline, twice and without a network: the same bits, and no word to anybody."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
PIPELINE = HERE / "whole_pipeline.py"
SAME = (
    "work/*.json",
    "work/cases/**/*.b2nd",
    "work/runs/default/fold_0/models/*.pt",
    "work/runs/default/fold_0/best.pt",
    "work/runs/default/fold_0/configs/inference.json",
    "work/runs/default/fold_0/validation/*",
    "labels/*.nii.gz",
    "labels/probabilities/*",
    "report/metrics.csv",
)
"""Files that hold results; others say how long something took, or when."""
SAYS_TEST = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")
"""Where one of these is set, libraries that call home elsewhere are silent by themselves."""


class Runs(NamedTuple):
    """What several runs left.

    Attributes:
        folders: Folder of each run.
        tried: Addresses beyond this machine that any of them tried to reach.
    """

    folders: list[Path]
    tried: list[str]


@pytest.fixture(scope="module")
def runs(balls: Path, tmp_path_factory: pytest.TempPathFactory, tries: Callable[[int, int], int]) -> Runs:
    """Runs at the same time, each with another seed of Python's hashes and number of workers."""
    out = tmp_path_factory.mktemp("twice")
    processes = []
    for number in range(1, 1 + tries(2, 4)):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE / "offline"), os.environ.get("PYTHONPATH")])),
            "PYTHONHASHSEED": str(number),
            "UNETPIPE_TRIED": str(out / "tried"),
            "OMP_NUM_THREADS": "1",
        }
        for name in ("MLFLOW_TRACKING_URI", *SAYS_TEST):
            environment.pop(name, None)
        command = [sys.executable, PIPELINE, balls, out / str(number), "--workers", str(number)]
        with (out / f"{number}.log").open("wb") as log:
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    for number, process in enumerate(processes, start=1):
        assert process.wait(1200) == 0, (out / f"{number}.log").read_text()
    tried = (out / "tried").read_text().splitlines() if (out / "tried").exists() else []
    return Runs([out / str(number) for number in range(1, 1 + len(processes))], tried)


def _digests(folder: Path) -> dict[str, str]:
    files = [file for pattern in SAME for file in folder.glob(pattern) if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_same_call_gives_the_same_bits(runs: Runs, record_fault: Callable[..., None]) -> None:
    """Cases, weights, labels, probabilities and scores of all runs are equal, for any number of workers."""
    first, *others = map(_digests, runs.folders)
    assert all(any(runs.folders[0].glob(pattern)) for pattern in SAME), "a pattern matches nothing"
    differing = [sorted(name for name in first if other.get(name) != first[name]) for other in others]
    print(differing)  # shown where the next line fails
    record_fault(
        "the same pipeline again on the same CPU",
        tried=len(others),
        lost=sum(map(bool, differing)),
        outcome=f"{len(first)} files of cases, weights, labels and scores are equal in every byte",
        command="pytest tests/reliability/test_twice.py",
    )


def test_nobody_is_called(runs: Runs, record_fault: Callable[..., None]) -> None:
    """From the dataset to the packed model no address beyond this machine is looked up or connected to."""
    print(runs.tried)
    record_fault(
        "a pipeline without a network",
        tried=len(runs.folders),
        leaked=len(runs.tried),
        outcome="every command runs to its end, and nothing beyond this machine is looked up or connected to",
        command="pytest tests/reliability/test_twice.py",
    )


def test_the_guard_notes_whoever_calls(tmp_path: Path) -> None:
    """What the guard is for is refused and noted: a name, an address, a datagram; loopback stays open."""
    code = """
import socket, urllib.request
listener = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listener.getsockname()).close()
for attempt in (
    lambda: urllib.request.urlopen("http://example.org", timeout=5),
    lambda: socket.create_connection(("192.0.2.1", 80), 5),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("192.0.2.2", 53)),
):
    try:
        attempt()
    except OSError as error:
        assert "unreachable" in str(error), error
    else:
        raise AssertionError
"""
    environment = {"PYTHONPATH": str(HERE / "offline"), "UNETPIPE_TRIED": str(tmp_path / "tried")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split("'")[1] for line in (tmp_path / "tried").read_text().splitlines()] == [
        "example.org",
        "192.0.2.1",
        "192.0.2.2",
    ]
