"""Studies that are made up, callers that send them, and a real archive."""

import json
import os
import random
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pynetdicom import AE

from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.geometry import Grid

_ORTHANC = shutil.which("Orthanc", path=os.environ.get("PATH", "") + ":/usr/sbin")
_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def _free_port() -> int:
    """A port that nothing listens on, and that no connection is given meanwhile, as those above 32768 are."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def _write_study(folder: Path, seed: int, *, slices: int = 4, modality: str = "CT", **attributes: str) -> list[Path]:
    """Write a study of one small series, and return its files."""
    grid = Grid.of((16, 14, slices), np.diag([-1.0, -1.0, 2.0, 1.0]))
    array = np.random.default_rng(seed).integers(0, 500, grid.shape).astype(np.int16)
    write_series(folder, array, grid, modality=modality, seed=seed)
    files = sorted(folder.iterdir())
    for file in files if attributes else ():
        image = pydicom.dcmread(file)
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
        image.save_as(file)
    return files


def _send(files: Sequence[Path], port: int, *, caller: str = "SENDER", called: str = "UNETPIPE") -> list[int | None]:
    """Send files in one association, and return the status of each; none where there is no answer."""
    node = AE(ae_title=caller)
    node.acse_timeout = node.dimse_timeout = 10  # for a node that was killed before it answered
    for data in map(pydicom.dcmread, files):
        node.add_requested_context(data.SOPClassUID, data.file_meta.TransferSyntaxUID)
        break
    association = node.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return []
    statuses: list[int | None] = []
    for file in files:
        if not association.is_established:
            break
        try:
            statuses.append(association.send_c_store(pydicom.dcmread(file)).get("Status"))
        except RuntimeError:  # the association broke off between two instances
            break
    if association.is_established:
        association.release()
    return statuses


def _wait_for(condition: Callable[[], Any], seconds: float = 180.0) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "what was waited for did not come about"
        time.sleep(0.05)
    return found


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Find ports that nothing listens on."""
    return _free_port


@pytest.fixture
def write_study() -> Callable[..., list[Path]]:
    """Write studies that are made up."""
    return _write_study


@pytest.fixture
def send() -> Callable[..., list[int | None]]:
    """Send files by C-STORE."""
    return _send


@pytest.fixture
def wait_for() -> Callable[..., Any]:
    """Wait for what other threads and processes do."""
    return _wait_for


@dataclass(frozen=True)
class Orthanc:
    """A running archive."""

    http: int
    dicom: int

    @property
    def dicomweb(self) -> str:
        """URL of its DICOMweb service."""
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def get(self, path: str) -> Any:
        """Ask its own interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    def put(self, path: str, content: Any) -> None:
        """Change its settings."""
        self._send("PUT", path, json.dumps(content))

    def post(self, path: str, content: str) -> None:
        """Let it do something."""
        self._send("POST", path, content)

    def _send(self, method: str, path: str, content: str = "") -> None:
        url = f"http://127.0.0.1:{self.http}{path}"
        urllib.request.urlopen(urllib.request.Request(url, content.encode(), method=method), timeout=60).read()

    def file(self, instance: str) -> bytes:
        """A whole instance."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/instances/{instance}/file", timeout=10) as answer:
            return bytes(answer.read())

    def segmentations(self) -> list[bytes]:
        """All segmentations that it holds."""
        return [self.file(name) for one in self._segmentation_series() for name in one["Instances"]]

    def count_segmentations(self) -> int:
        """Number of segmentations that it holds."""
        return sum(len(one["Instances"]) for one in self._segmentation_series())

    def _segmentation_series(self) -> list[Any]:
        return [one for one in self.get("/series?expand") if one["MainDicomTags"]["Modality"] == "SEG"]

    def clear(self) -> None:
        """Remove everything."""
        for study in self.get("/studies"):
            self._send("DELETE", f"/studies/{study}")


@pytest.fixture(scope="session")
def _orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if _ORTHANC is None or not _DICOMWEB.is_file():
        pytest.skip("Orthanc with its DICOMweb plugin is not installed (.ci/run installs it)")
    folder = tmp_path_factory.mktemp("orthanc")
    archive = Orthanc(http=_free_port(), dicom=_free_port())
    settings = {
        "Name": "archive",
        "Plugins": [str(_DICOMWEB)],
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": archive.http,
        "DicomPort": archive.dicom,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([_ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:

        def ready() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return bool(archive.get("/system"))
            except (urllib.error.URLError, ConnectionError):
                return False

        _wait_for(ready)
        yield archive
    finally:
        process.terminate()
        process.wait(120)


@pytest.fixture
def orthanc(_orthanc: Orthanc) -> Orthanc:
    """An empty archive that talks DICOM and DICOMweb."""
    _orthanc.clear()
    return _orthanc
