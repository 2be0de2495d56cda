"""Nothing that names a patient leaves the DICOM files of a node: neither folder, nor log, nor metrics name one."""

import contextlib
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pynetdicom import AE, AllStoragePresentationContexts, evt

from unetpipe.imaging.geometry import Grid
from unetpipe.service.config import ListenConfig
from unetpipe.service.delivery import Delivery
from unetpipe.service.dimse import DicomNode
from unetpipe.service.node import opened
from unetpipe.service.receiver import Receiver, receiving
from unetpipe.service.rules import Rule
from unetpipe.service.segmenter import Segmenter
from unetpipe.service.worker import Worker

GRID = Grid.of((16, 14, 4), np.diag([-1.0, -1.0, 2.0, 1.0]))


def test_no_mark_leaves_the_files_of_a_node(
    tmp_path: Path, canary: SimpleNamespace, make_bundle: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Studies that are segmented, refused, damaged and sent in vain leave marks in DICOM files and nowhere else."""
    ports = [free_port(), free_port()]
    site = tmp_path / "site"
    config = ListenConfig(
        model=make_bundle(), out=site / "node", port=ports[0], caller=("SENDER",), quiet_seconds=1e-9, uncoded=True
    )
    for seed in range(3):
        array = np.random.default_rng(seed).integers(0, 500, GRID.shape).astype(np.int16)
        canary.mark_series(tmp_path / str(seed), array, GRID, seed=seed)
    whole, gap, damaged = (sorted((tmp_path / str(seed)).iterdir()) for seed in range(3))
    lone = pydicom.dcmread(damaged[0])
    del lone.StudyInstanceUID
    lone.save_as(damaged[0])
    taken: list[str] = []
    archive = AE(ae_title="ARCHIVE")
    archive.supported_contexts = AllStoragePresentationContexts
    handlers = [(evt.EVT_C_STORE, lambda event: taken.append(event.dataset.Modality) or 0x0000)]
    assert config.model is not None
    rules = [Rule(model=config.model)]
    with caplog.at_level(logging.DEBUG), contextlib.ExitStack() as running:
        node = running.enter_context(opened(config))
        worker = Worker(node, rules, Segmenter(rules, config), announce=lambda: None)
        running.enter_context(receiving(config, Receiver(node, at_release=False)))
        assert send(whole, ports[0]) == [0] * 4
        assert send(sorted(gap, key=place)[:1] + sorted(gap, key=place)[2:], ports[0]) == [0] * 3
        assert send(damaged[:1], ports[0]) == [0xC000]
        while worker.step():
            pass
        with Delivery(node, DicomNode(f"ARCHIVE@127.0.0.1:{ports[1]}", "UNETPIPE")).running():
            wait_for(lambda: node.metrics.total("send_failures"))
            server = archive.start_server(("127.0.0.1", ports[1]), block=False, evt_handlers=handlers)
            wait_for(lambda: taken)
            wait_for(lambda: not node.results_waiting)
        server.shutdown()
        assert node.spool.dead_letters == 1
        (site / "metrics.txt").write_text(node.metrics.text())
    assert taken == ["SEG"]
    package = [record.getMessage() for record in caplog.records if record.name.startswith("unetpipe")]
    assert any("MISSING_SLICE" in message for message in package)
    (site / "log.txt").write_text("\n".join(f"{record.name} {record.getMessage()}" for record in caplog.records))
    for file in list(site.rglob("*.dcm")):
        file.write_bytes(b"")  # their names are searched all the same
    assert canary.marks_in(site) == []


def place(file: Path) -> float:
    return float(pydicom.dcmread(file).ImagePositionPatient[2])


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def send(files: list[Path], port: int) -> list[int]:
    caller = AE(ae_title="SENDER")
    data = [pydicom.dcmread(file) for file in files]
    caller.add_requested_context(data[0].SOPClassUID, data[0].file_meta.TransferSyntaxUID)
    association = caller.associate("127.0.0.1", port, ae_title="UNETPIPE")
    statuses = [int(association.send_c_store(one).Status) for one in data]
    association.release()
    return statuses
