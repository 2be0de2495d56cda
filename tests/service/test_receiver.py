"""The C-STORE provider: who may send, what is acknowledged, and what cannot bring it down."""

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from unetpipe.errors import ServiceError, UnetpipeError
from unetpipe.service.config import ListenConfig
from unetpipe.service.node import Node, opened
from unetpipe.service.receiver import Receiver, receiving

WriteStudy = Callable[..., list[Path]]
Send = Callable[..., list[int | None]]
WaitFor = Callable[..., Any]


@dataclass(frozen=True)
class Listening:
    """A node that receives."""

    node: Node
    config: ListenConfig

    @property
    def port(self) -> int:
        return self.config.port


@pytest.fixture
def listening(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Listening]:
    """A node that takes two studies and 20 kB from SENDER, and completes them at release."""
    config = ListenConfig(
        model=tmp_path / "none",
        out=tmp_path / "node",
        port=free_port(),
        caller=("SENDER",),
        quiet_seconds=3600,
        at_release=True,
        max_studies=2,
        max_gb=2e-5,
    )
    with opened(config) as node, receiving(config, Receiver(node, at_release=config.at_release)):
        yield Listening(node, config)


def test_what_is_acknowledged_is_on_disk(
    listening: Listening, write_study: WriteStudy, send: Send, wait_for: WaitFor, tmp_path: Path
) -> None:
    """Each instance lies there with its values, under names that tell nothing, and the release completes the study."""
    files = write_study(tmp_path / "study", 1)
    assert send(files, listening.port) == [0] * 4
    stored = list((tmp_path / "node/incoming").rglob("*.dcm"))
    assert len(stored) == 4
    assert {pydicom.dcmread(file).SOPInstanceUID for file in stored} == {
        pydicom.dcmread(file).SOPInstanceUID for file in files
    }
    uids = {value for file in files for value in _uids(file)}
    assert not any(uid in str(file) for file in stored for uid in uids)
    study = wait_for(listening.node.spool.take)
    assert [len(instances) for instances in study.series().values()] == [4]


def _uids(file: Path) -> tuple[str, ...]:
    data = pydicom.dcmread(file)
    return data.StudyInstanceUID, data.SeriesInstanceUID, data.SOPInstanceUID, data.PatientID


def test_a_study_is_complete_when_the_last_of_its_associations_is_released(
    listening: Listening, write_study: WriteStudy, send: Send, wait_for: WaitFor, tmp_path: Path
) -> None:
    """A caller may send one study in two associations at a time."""
    files = write_study(tmp_path / "study", 1)
    caller = AE(ae_title="SENDER")
    first = pydicom.dcmread(files[0])
    caller.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
    association = caller.associate("127.0.0.1", listening.port, ae_title="UNETPIPE")
    assert association.send_c_store(first).Status == 0
    assert send(files[1:], listening.port) == [0] * 3
    time.sleep(0.3)
    assert listening.node.spool.take() is None
    association.release()
    assert len(wait_for(listening.node.spool.take).series()) == 1


def test_an_aborted_association_does_not_complete_a_study(
    listening: Listening, write_study: WriteStudy, tmp_path: Path
) -> None:
    """Its caller sends again what it is not sure of; until then, or the quiet period is over, the study waits."""
    files = write_study(tmp_path / "study", 1)
    caller = AE(ae_title="SENDER")
    first = pydicom.dcmread(files[0])
    caller.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
    association = caller.associate("127.0.0.1", listening.port, ae_title="UNETPIPE")
    assert association.send_c_store(first).Status == 0
    association.abort()
    time.sleep(0.3)
    assert listening.node.spool.take() is None
    assert listening.node.spool.waiting == 1


def test_only_callers_on_the_list_are_served(
    listening: Listening, write_study: WriteStudy, send: Send, tmp_path: Path
) -> None:
    """Another caller, and one that calls the node by another title, get no association."""
    files = write_study(tmp_path / "study", 1)
    assert send(files, listening.port, caller="STRANGER") == []
    assert send(files, listening.port, called="OTHER") == []
    assert list((tmp_path / "node/incoming").iterdir()) == []


def test_a_full_node_says_so(listening: Listening, write_study: WriteStudy, send: Send, tmp_path: Path) -> None:
    """Further studies get the status for a lack of resources, and those that have begun are taken to their end."""
    for seed in (1, 2):
        assert send(write_study(tmp_path / str(seed), seed, slices=1), listening.port) == [0]
    assert send(write_study(tmp_path / "3", 3, slices=1), listening.port) == [0xA700]
    large = write_study(tmp_path / "1 again", 1, slices=20)
    assert set(send(large, listening.port)) == {0}
    assert 'instances_refused_total{reason="full"}' in listening.node.metrics.text()


def test_an_instance_without_identifiers_is_refused(
    listening: Listening, write_study: WriteStudy, send: Send, tmp_path: Path
) -> None:
    """It gets the status of an object that cannot be understood, and nothing is stored."""
    file = write_study(tmp_path / "study", 1, slices=1)[0]
    data = pydicom.dcmread(file)
    del data.StudyInstanceUID
    data.save_as(file)
    assert send([file], listening.port) == [0xC000]
    assert listening.node.spool.waiting == 0


GARBAGE = [
    b"",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x01\x00" + struct.pack(">I", 2**32 - 1) + b"\0" * 64,  # a request for an association of 4 GB
    b"\x01\x00" + struct.pack(">I", 4) + b"\xff" * 4,
    b"\x01\x00" + struct.pack(">I", 68) + b"\0\x01\0\0" + b"UNETPIPE        " + b"\xff" * 48,
    b"\x04\x00" + struct.pack(">I", 10) + b"\xff" * 10,  # data before there is an association
    bytes(range(256)) * 40,
]


def test_malformed_associations_do_not_bring_it_down(
    listening: Listening, write_study: WriteStudy, send: Send, tmp_path: Path
) -> None:
    """After garbage of many kinds, and callers that vanish, a study is received as before."""
    for garbage in GARBAGE:
        with socket.create_connection(("127.0.0.1", listening.port), timeout=5) as caller:
            caller.sendall(garbage)
    assert send(write_study(tmp_path / "study", 1), listening.port) == [0] * 4


def test_it_answers_an_echo(listening: Listening) -> None:
    """C-ECHO is how administrators test a connection."""
    caller = AE(ae_title="SENDER")
    caller.add_requested_context(Verification)
    association = caller.associate("127.0.0.1", listening.port, ae_title="UNETPIPE")
    assert association.send_c_echo().Status == 0
    association.release()


def test_one_process_holds_a_folder(listening: Listening) -> None:
    """A second listener is refused, and so are a port that is taken and a folder that others can read."""
    with pytest.raises(UnetpipeError, match=f"in use by process {os.getpid()} on"), opened(listening.config):
        pass
    taken = Receiver(listening.node, at_release=True)
    with pytest.raises(ServiceError, match=f"--port {listening.port}"), receiving(listening.config, taken):
        pass
    listening.config.out.chmod(0o755)
    with pytest.raises(ServiceError, match="others can read it"), opened(listening.config):
        pass
