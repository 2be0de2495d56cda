"""What monitors see of a node."""

import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from unetpipe.errors import ServiceError
from unetpipe.service.config import ListenConfig
from unetpipe.service.health import serving
from unetpipe.service.listen import listen
from unetpipe.service.metrics import Metrics

LINE = re.compile(r'# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[a-z_]+"\})? [0-9.e+-]+')


def asked(port: int, path: str) -> tuple[int, str]:
    """Status and text of an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def problems() -> list[str]:
    return []


@pytest.fixture
def served(free_port: Callable[[], int], problems: list[str]) -> Iterator[tuple[int, Metrics]]:
    metrics, port = Metrics(), free_port()
    with serving(port, metrics, lambda: problems):
        yield port, metrics


def test_a_node_is_healthy_until_something_needs_a_person(served: tuple[int, Metrics], problems: list[str]) -> None:
    """200 without problems, 503 with a line for each, and nothing else is served."""
    port, _ = served
    assert asked(port, "/healthz") == (200, "ok\n")
    problems += ["one", "two"]
    assert asked(port, "/healthz") == (503, "one\ntwo\n")
    assert asked(port, "/node/incoming")[0] == 404


def test_metrics_are_in_the_format_of_prometheus(served: tuple[int, Metrics]) -> None:
    """Each line is a comment or a sample; counters count, gauges are read anew."""
    port, metrics = served
    values = [1234567.0, 2.5]
    metrics.gauge("studies_waiting", "Studies that wait.", lambda: values.pop())
    metrics.count("studies", 'outcome="segmented"')
    metrics.count("studies", 'outcome="segmented"')
    text = asked(port, "/metrics")[1]
    assert [line for line in text.splitlines() if not LINE.fullmatch(line)] == []
    assert 'unetpipe_studies_total{outcome="segmented"} 2\n' in text
    assert "unetpipe_instances_received_total 0\n" in text
    assert "unetpipe_studies_waiting 2.5\n" in text
    assert "unetpipe_studies_waiting 1234567\n" in asked(port, "/metrics")[1]


def test_only_this_machine_is_answered(served: tuple[int, Metrics]) -> None:
    """The port is open on the loopback address alone, and a second node finds it taken."""
    port, metrics = served
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        with socket.socket() as caller:
            caller.settimeout(2)
            assert caller.connect_ex((address, port)) != 0 or address.startswith("127.")
    with pytest.raises(ServiceError, match=f"--health-port {port}"), serving(port, metrics, list):
        pass


def test_a_missing_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install, before a model is loaded."""
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    monkeypatch.delitem(sys.modules, "unetpipe.service.receiver", raising=False)
    with pytest.raises(ServiceError, match=r"^pynetdicom is not installed: pip install 'unetpipe\[clinic\]'$"):
        listen(ListenConfig(model=tmp_path / "none", out=tmp_path / "node", caller=("A",)))
    assert not (tmp_path / "node").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either --model or --rules"),
        ({"model": "a", "rules": "b"}, "either --model or --rules"),
        ({"model": "a", "caller": ()}, "at least 1 item"),
        ({"model": "a", "caller": ("A" * 17,)}, "at most 16"),
        ({"model": "a", "ae_title": "A\\B"}, "pattern"),
        ({"model": "a", "host": ""}, "at least 1 character"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str, tmp_path: Path) -> None:
    """A node has one way to choose models, callers, and AE titles of the standard's form."""
    with pytest.raises(ValidationError, match=message):
        ListenConfig.model_validate({"out": tmp_path, "caller": ("A",), **options})


@pytest.mark.parametrize(
    ("address", "message"),
    [("ARCHIVE@host", "AETITLE@HOST:PORT"), ("https://me:secret@host/", "holds credentials"), ("host:104", "AETITLE@")],
)
def test_wrong_destinations_are_refused_before_a_model_is_loaded(address: str, message: str, tmp_path: Path) -> None:
    """The error comes at the start, not with the first result."""
    with pytest.raises(ServiceError, match=message):
        listen(ListenConfig(model=tmp_path / "none", out=tmp_path / "node", caller=("A",), send_to=address))
