"""`unetpipe listen` as a process beside a real archive: nothing is lost or comes twice, and it ends when asked."""

import io
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest

from unetpipe import infer
from unetpipe.config.infer import InferConfig

WriteStudy = Callable[..., list[Path]]
Send = Callable[..., list[int | None]]
WaitFor = Callable[..., Any]
STUDIES = 50
PATIENCE_SECONDS = 300  # other tests may hold the cores, and a slow disk takes its time for each instance


@dataclass
class Listener:
    """The command, which can be killed and started again."""

    model: Path
    arguments: Sequence[str]
    port: int
    health: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "unetpipe", "listen", *self.arguments]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return "listening on" in self.log.read_text() and self.get("/healthz") == "ok\n"

    def get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError):
            return ""

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


@pytest.fixture
def listener(
    orthanc: Any, make_bundle: Callable[..., Path], free_port: Callable[[], int], wait_for: WaitFor, tmp_path: Path
) -> Iterator[Listener]:
    """A node with a small model that takes studies of ORTHANC and SENDER, and sends results to the archive."""
    port, health, model = free_port(), free_port(), make_bundle()
    arguments = [
        *("--model", model, "--out", tmp_path / "node", "--port", port, "--health-port", health),
        *("--caller", "ORTHANC", "--caller", "SENDER", "--send-to", f"ORTHANC@127.0.0.1:{orthanc.dicom}"),
        *("--quiet-seconds", 60, "--at-release", "--device", "cpu", "--uncoded"),
    ]
    node = Listener(model, [str(argument) for argument in arguments], port, health, tmp_path / "log")
    node.start()
    try:
        wait_for(node.is_ready)
        yield node
    finally:
        if node.process is not None and node.process.poll() is None:
            node.process.kill()
            node.process.wait()


def test_a_study_goes_from_the_archive_to_the_node_and_its_segmentation_comes_back(
    listener: Listener, orthanc: Any, write_study: WriteStudy, send: Send, wait_for: WaitFor, tmp_path: Path
) -> None:
    """The archive gets one segmentation of its study, voxel for voxel what `infer` gives; SIGTERM ends the node."""
    files = write_study(tmp_path / "study", 1)
    assert send(files, orthanc.dicom, called="ORTHANC") == [0] * 4
    orthanc.put("/modalities/node", {"AET": "UNETPIPE", "Host": "127.0.0.1", "Port": listener.port})
    (study,) = orthanc.get("/studies")
    orthanc.post("/modalities/node/store", study)
    (content,) = wait_for(orthanc.segmentations)
    found = highdicom.seg.segread(io.BytesIO(content))
    source = pydicom.dcmread(files[0])
    assert found.StudyInstanceUID == source.StudyInstanceUID
    assert found.PatientID == source.PatientID
    out = tmp_path / "labels"
    infer(
        InferConfig(
            models=(listener.model,),
            inputs=(tmp_path / "study",),
            out=out,
            device="cpu",
            format=("dicom-seg",),
            uncoded=True,
        )
    )
    expected = highdicom.seg.segread(next(out.glob("dicom-seg/*.dcm")))
    assert np.array_equal(found.pixel_array, expected.pixel_array)
    assert 'unetpipe_studies_total{outcome="segmented"} 1' in listener.get("/metrics")
    orthanc.post("/modalities/node/store", study)  # the whole study again, its segmentation included
    wait_for(lambda: 'outcome="repeated"} 1' in listener.get("/metrics"))
    assert listener.end(signal.SIGTERM) == 0
    assert len(orthanc.segmentations()) == 1
    log = listener.log.read_text()
    for secret in (source.PatientName, source.PatientID, source.StudyInstanceUID, found.SOPInstanceUID, str(files[0])):
        assert str(secret) not in log
    assert list((tmp_path / "node").rglob("*.dcm")) == []


def _segmented(orthanc: Any) -> Counter[str]:
    """How many segmentations the archive holds of each study."""
    return Counter(pydicom.dcmread(io.BytesIO(one)).StudyInstanceUID for one in orthanc.segmentations())


@pytest.mark.slow
def test_no_study_is_lost_or_comes_twice_when_the_node_is_killed(
    listener: Listener, orthanc: Any, write_study: WriteStudy, send: Send, wait_for: WaitFor, tmp_path: Path
) -> None:
    """Fifty studies are sent while the node is killed three times: the archive has one segmentation of each."""
    studies = [write_study(tmp_path / "studies" / str(seed), seed, slices=3) for seed in range(STUDIES)]

    node = tmp_path / "node"

    def send_all() -> None:
        for files in studies:
            wait_for(lambda files=files: send(files, listener.port) == [0] * len(files), PATIENCE_SECONDS)

    def is_done() -> bool:
        return all("dead-letter" in file.parts for file in node.rglob("*.dcm"))

    sender = threading.Thread(target=send_all)
    sender.start()
    for count in (8, 24, 40):
        wait_for(lambda count=count: orthanc.count_segmentations() >= count, PATIENCE_SECONDS)
        assert listener.end(signal.SIGKILL) == -signal.SIGKILL
        listener.start()
    sender.join()
    wait_for(is_done, PATIENCE_SECONDS)
    assert listener.end(signal.SIGINT) == 0
    assert list((node / "dead-letter").iterdir()) == []
    expected = {pydicom.dcmread(files[0]).StudyInstanceUID: 1 for files in studies}
    assert _segmented(orthanc) == expected, listener.log.read_text()
    assert list(node.rglob("*.dcm")) == []
