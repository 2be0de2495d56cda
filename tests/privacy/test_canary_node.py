"""Nothing that names a patient comes through a node of the hospital's network, but in the objects that it returns."""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest

from unetpipe.imaging.geometry import Grid

MakeBundle = Callable[..., Path]
GRID = Grid.of((16, 14, 4), np.diag([-1.0, -1.0, 2.0, 1.0]))


@pytest.mark.slow
def test_no_mark_comes_through_a_node(tmp_path: Path, canary: SimpleNamespace, make_bundle: MakeBundle) -> None:
    """A study that is segmented and one that cannot be leave no mark in files, their names, the log or the metrics."""
    pynetdicom = pytest.importorskip("pynetdicom")
    random = np.random.default_rng(0)
    for seed in (1, 2):
        array = random.integers(0, 500, GRID.shape).astype(np.int16)
        canary.mark_series(tmp_path / "source" / str(seed), array, GRID, seed=seed)
    next((tmp_path / "source" / "2").iterdir()).unlink()  # a slice of the stack is missing
    port, health = free_port(), free_port()
    arguments = ["--model", make_bundle(), "--out", tmp_path / "site" / "node", "--port", port, "--health-port", health]
    arguments += ["--caller", "SENDER", "--at-release", "--device", "cpu", "--uncoded"]
    (tmp_path / "site").mkdir()
    log_file = tmp_path / "site" / "log"
    with log_file.open("wb") as log:
        command = [sys.executable, "-m", "unetpipe", "listen", *map(str, arguments)]
        node = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(lambda: "listening on" in log_file.read_text() and ask(health, "/healthz") == "ok\n")
            for seed in (1, 2):
                send(pynetdicom.AE(ae_title="SENDER"), sorted((tmp_path / "source" / str(seed)).iterdir()), port)
            wait_for(lambda: ended(ask(health, "/metrics")) == 2)
            (tmp_path / "site" / "metrics").write_text(ask(health, "/metrics"))
        finally:
            node.send_signal(signal.SIGTERM)
            node.wait(60)
    objects = [path for path in (tmp_path / "site").rglob("*") if path.is_file() and is_dicom(path)]
    assert objects
    for number, path in enumerate(objects):
        assert canary.mark not in path.name
        path.rename(tmp_path / f"object {number}")
    assert canary.marks_in(tmp_path / "site") == []


def is_dicom(path: Path) -> bool:
    """Whether a file is a DICOM object, by its preamble."""
    return path.read_bytes()[128:132] == b"DICM"


def ended(metrics: str) -> int:
    """Studies that have come to an end, one way or the other."""
    lines = [line for line in metrics.splitlines() if line.startswith("unetpipe_studies_total")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


def send(node: pydicom.Dataset, files: list[Path], port: int) -> None:
    """Send files by C-STORE, in one association."""
    images = list(map(pydicom.dcmread, files))
    node.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
    association = node.associate("127.0.0.1", port, ae_title="UNETPIPE")
    assert [association.send_c_store(image).Status for image in images] == [0] * len(images)
    association.release()


def ask(port: int, path: str) -> str:
    """The answer of the node's web page; empty as long as there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return ""


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is true."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come about"
        time.sleep(0.1)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
