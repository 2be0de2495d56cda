"""A server that refuses, answers late or loses its answers: what it was sent is there, once."""

import http.client
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from unetpipe.tracking import background, patience
from unetpipe.tracking.background import BackgroundTracker
from unetpipe.tracking.mlflow import MlflowTracker
from unetpipe.tracking.tracker import TrackedRun

pytestmark = pytest.mark.slow

STEPS = 12


class Proxy(ThreadingHTTPServer):
    """Stands before a server, and does to each request what `fault` says of its path.

    Attributes:
        faults: How often each of them happened.
    """

    def __init__(self, server: str, fault: Callable[[str], str | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Disturbing)
        self.server, self.fault, self.lock = urlsplit(server).netloc, fault, threading.Lock()
        self.faults: dict[str, int] = {}


class _Disturbing(BaseHTTPRequestHandler):
    server: Proxy

    def _do(self) -> None:
        with self.server.lock:
            fault = self.server.fault(self.path)
            if fault:
                self.server.faults[fault] = self.server.faults.get(fault, 0) + 1
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.close_connection = True
        if fault == "down":
            return
        if fault == "busy":
            self.send_error(503)
            return
        status, headers, answer = self._forward(body)
        if fault == "lost":
            return
        if fault == "late":
            time.sleep(6)
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._do
        raise AttributeError(name)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.server, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers) | {"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()

    def log_message(self, *args: object) -> None: ...


@contextmanager
def _before(server: str, fault: Callable[[str], str | None]) -> Iterator[tuple[str, Proxy]]:
    with Proxy(server, fault) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_address[1]}", proxy
        proxy.shutdown()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Short pauses, and a client that takes an answer after five seconds for none."""
    monkeypatch.setattr(patience, "_FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return monkeypatch


def _track(name: str, folder: Path) -> BackgroundTracker:
    """Send all that a training sends."""
    (folder / "plan.yaml").write_text("plan")
    tracker = BackgroundTracker(MlflowTracker, TrackedRun(work=folder, name=name))
    tracker.parameters({"config": {"seed": 0}})
    tracker.tags({"torch": "2"})
    for step in range(STEPS):
        tracker.metrics({"loss": 1.0 / (step + 1), "dice": step / STEPS}, step)
    tracker.artifact(folder / "plan.yaml")
    tracker.finish("FINISHED")
    return tracker


def _runs(uri: str, name: str) -> list[Any]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("unetpipe")
    return list(client.search_runs([experiment.experiment_id], f"run_name = '{name}'"))


@pytest.mark.parametrize("seed", range(3))
def test_a_run_is_whole_after_any_disturbance(
    on_server: Any, hasty: pytest.MonkeyPatch, tmp_path: Path, seed: int
) -> None:
    """Every third request is disturbed: the run is there once, FINISHED, with each point of its curves once."""
    rng = random.Random(seed)
    opened = False

    def fault(path: str) -> str | None:
        nonlocal opened
        before, opened = opened, opened or path.endswith("runs/create")
        return rng.choice(["down", "busy", "lost", "late"]) if opened and (not before or rng.random() < 1 / 3) else None

    with _before(on_server.uri, fault) as (uri, proxy):
        hasty.setenv("MLFLOW_TRACKING_URI", uri)
        tracker = _track(f"disturbed {seed}", tmp_path)
        assert tracker.complete
    assert sum(proxy.faults.values()) > 3
    (run,) = _runs(on_server.uri, f"disturbed {seed}")
    assert (run.info.run_id, run.info.status) == (tracker.run_id, "FINISHED")
    client = MlflowClient(on_server.uri)
    for curve in ("loss", "dice"):
        assert [point.step for point in client.get_metric_history(run.info.run_id, curve)] == list(range(STEPS))
    assert run.data.params == {"config.seed": "0"}
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["plan.yaml"]


def test_a_run_that_was_started_twice_is_there_once(on_server: Any, hasty: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The answer to the request that starts the run is lost, twice."""
    asked = 0

    def fault(path: str) -> str | None:
        nonlocal asked
        asked += path.endswith("runs/create")
        return "lost" if path.endswith("runs/create") and asked <= 2 else None

    with _before(on_server.uri, fault) as (uri, proxy):
        hasty.setenv("MLFLOW_TRACKING_URI", uri)
        tracker = _track("twice", tmp_path)
    assert proxy.faults == {"lost": 2}
    assert [(run.info.run_id, run.info.status) for run in _runs(on_server.uri, "twice")] == [
        (tracker.run_id, "FINISHED")
    ]


def test_a_server_that_dies_costs_a_line(
    on_server: Any, hasty: pytest.MonkeyPatch, tmp_path: Path, logged: list[str]
) -> None:
    """It answers until the fifth epoch: the training ends soon, with one line, and knows that the run is incomplete."""
    hasty.setattr(patience, "PATIENCE_SECONDS", 2.0)
    left = 10

    def fault(_: str) -> str | None:
        nonlocal left
        left -= 1
        return "down" if left < 0 else None

    with _before(on_server.uri, fault) as (uri, _):
        hasty.setenv("MLFLOW_TRACKING_URI", uri)
        tracker = _track("died", tmp_path)
    assert not tracker.complete
    assert logged == ["tracking stopped, the run goes on (MlflowException)"]


def test_nothing_waits_long_for_a_server_that_stopped_answering(
    on_server: Any, hasty: pytest.MonkeyPatch, tmp_path: Path, logged: list[str]
) -> None:
    """The end of a run waits for answers, and not for the patience of the calls."""
    hasty.setattr(background, "_PATIENCE_SECONDS", 1.0)
    opened = 6

    def fault(_: str) -> str | None:
        nonlocal opened
        opened -= 1
        return "down" if opened < 0 else None

    with _before(on_server.uri, fault) as (uri, _):
        hasty.setenv("MLFLOW_TRACKING_URI", uri)
        hasty.setattr(patience, "PATIENCE_SECONDS", 6.0)
        tracker = _track("silent", tmp_path)
        assert not tracker.complete
        assert logged == ["the tracking store did not take everything in time"]
        tracker._thread.join(30)
