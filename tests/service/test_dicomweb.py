"""A DICOMweb server is asked, asked again, and shown credentials only where nobody else sees them."""

import json
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from unetpipe.errors import ServiceError
from unetpipe.service.credentials import Credentials, credentials_from, require_safe
from unetpipe.service.dicomweb import DicomwebServer, ServedSeries
from unetpipe.service.retries import RefusedError, UnavailableError

WriteStudy = Callable[..., list[Path]]
NOBODY = Credentials()
STUDY = "1.2.3"
SERIES = [{"0020000E": {"Value": ["1.2.3.4"]}, "00080060": {"Value": ["CT"]}, "00201209": {"Value": [2]}}]


class Answers(BaseHTTPRequestHandler):
    """Gives the statuses that are waiting, then 200 with a series; keeps the headers that it was sent."""

    statuses: list[int]
    seen: list[dict[str, str]]
    content: bytes
    media: str
    location = ""

    def do_GET(self) -> None:
        self.seen.append(dict(self.headers))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = self.statuses.pop(0) if self.statuses else 200
        body = self.page(parse_qs(urlsplit(self.path).query)) if status in (200, 409) else b""
        self.send_response(status)
        self.send_header("Content-Type", self.media)
        if status == 308:
            self.send_header("Location", self.location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def page(self, query: dict[str, list[str]]) -> bytes:
        del query
        return self.content

    do_POST = do_GET  # noqa: N815 - the name of http.server

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[str, type[Answers]]]]:
    """Start servers that answer with given statuses, with TLS where there is a certificate."""
    servers = []

    def start(
        *statuses: int,
        certificate: Path | None = None,
        content: bytes = json.dumps(SERIES).encode(),
        media: str = "application/dicom+json",
    ) -> tuple[str, type[Answers]]:
        members = {"statuses": list(statuses), "seen": [], "content": content, "media": media}
        handler = type("Handler", (Answers,), members)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        scheme = "http" if certificate is None else "https"
        return f"{scheme}://localhost:{server.server_address[1]}/dicom-web", handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetpipe.service.retries.time.sleep", lambda _: None)


@pytest.mark.usefixtures("no_waiting")
def test_a_busy_server_is_asked_again(serve: Any) -> None:
    """Statuses that mean "later" are repeated, and the answer counts; after the fifth the server is unavailable."""
    url, _ = serve(503, 429, 500)
    assert DicomwebServer(url, NOBODY).image_series(STUDY) == [ServedSeries("1.2.3.4", 2)]
    url, handler = serve(*[503] * 9)
    with pytest.raises(UnavailableError, match="HTTP status 503"):
        DicomwebServer(url, NOBODY).image_series(STUDY)
    assert len(handler.seen) == 5


def test_a_refusal_is_not_repeated(serve: Any) -> None:
    """Wrong credentials do not lock an account by five attempts; the message names no study."""
    url, handler = serve(401)
    with pytest.raises(ServiceError, match=r"^the DICOMweb server answered with HTTP status 401$"):
        DicomwebServer(url, NOBODY).image_series(STUDY)
    assert len(handler.seen) == 1


@pytest.mark.usefixtures("no_waiting")
def test_series_that_come_in_pages_are_all_found(serve: Any) -> None:
    """A server may give two at a time, and be busy in between."""
    uids = [f"1.2.3.{number}" for number in range(5)]
    url, handler = serve(200, 200, 503)

    def page(_: Answers, query: dict[str, list[str]]) -> bytes:
        start = int(query.get("offset", ["0"])[0])
        return json.dumps([{**SERIES[0], "0020000E": {"Value": [uid]}} for uid in uids[start : start + 2]]).encode()

    handler.page = page
    assert [one.uid for one in DicomwebServer(url, NOBODY).image_series(STUDY)] == uids
    assert len(handler.seen) == 5


def test_a_server_without_pages_is_asked_once_more(serve: Any) -> None:
    """One that gives everything whatever is asked for is done when it repeats itself."""
    url, handler = serve()
    assert DicomwebServer(url, NOBODY).image_series(STUDY) == [ServedSeries("1.2.3.4", 2)]
    assert len(handler.seen) == 2


@pytest.mark.usefixtures("no_waiting")
def test_nobody_listens(free_port: Callable[[], int]) -> None:
    """A server that is not there is unavailable."""
    with pytest.raises(UnavailableError, match="cannot be reached"):
        DicomwebServer(f"http://127.0.0.1:{free_port()}/dicom-web", NOBODY).image_series(STUDY)


@pytest.mark.parametrize(
    ("environment", "header"),
    [
        ({"UNETPIPE_DICOMWEB_TOKEN": "abc"}, "Bearer abc"),
        ({"UNETPIPE_DICOMWEB_USER": "me", "UNETPIPE_DICOMWEB_PASSWORD": "secret"}, "Basic bWU6c2VjcmV0"),
        ({}, None),
    ],
)
def test_credentials_come_from_the_environment_and_into_no_log(
    environment: dict[str, str], header: str | None, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """They go into the header of each request; no library's log and no text form holds them."""
    url, handler = serve()
    credentials = credentials_from(environment)
    with caplog.at_level(logging.DEBUG):
        DicomwebServer(url, credentials).image_series(STUDY)
    assert handler.seen[0].get("Authorization") == header
    for secret in ("abc", "secret", "bWU6c2VjcmV0"):
        assert secret not in caplog.text + repr(credentials) + str(credentials) + f"{credentials}"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TOKEN": "a", "USER": "b", "PASSWORD": "c"}, "got both"),
        ({"USER": "b"}, "expected both of UNETPIPE_DICOMWEB_USER and PASSWORD"),
        ({"CERT": "/c", "KEY": ""}, "expected both of UNETPIPE_DICOMWEB_CERT and KEY"),
        ({"CA": "/is/not/there"}, "must name files"),
    ],
)
def test_half_credentials_are_refused(environment: dict[str, str], message: str) -> None:
    """Nothing is sent with less than was meant."""
    with pytest.raises(ServiceError, match=message):
        credentials_from({f"UNETPIPE_DICOMWEB_{name}": value for name, value in environment.items()})


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://pacs.hospital/dicom-web", "over https only"),
        ("https://me:secret@pacs.hospital/", "^the URL holds credentials"),
        ("ftp://pacs.hospital", "expected the URL"),
        ("pacs.hospital/dicom-web", "expected the URL"),
        ("https://[::1", "take the URL of a DICOMweb server"),
    ],
)
def test_urls_that_would_show_credentials_are_refused(url: str, message: str) -> None:
    """No token goes over a network in clear text; on this machine it may."""
    token = Credentials(token="abc")
    with pytest.raises(ServiceError, match=message) as raised:
        require_safe(url, token)
    assert "secret" not in str(raised.value)
    require_safe("http://127.0.0.1:8042/dicom-web", token)
    require_safe("https://pacs.hospital/dicom-web", token)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of localhost that it has signed itself, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return file


def test_a_certificate_must_be_trusted(serve: Any, certificate: Path) -> None:
    """A server with an authority of its own is talked to only where that is given."""
    url, handler = serve(certificate=certificate)
    with pytest.raises(ServiceError, match=r"^TLS: the certificate"):
        DicomwebServer(url, NOBODY).image_series(STUDY)
    assert handler.seen == []
    credentials = credentials_from({"UNETPIPE_DICOMWEB_CA": str(certificate), "UNETPIPE_DICOMWEB_TOKEN": "abc"})
    assert DicomwebServer(url, credentials).image_series(STUDY)
    assert handler.seen[0]["Authorization"] == "Bearer abc"


def failed(reason: int) -> Any:
    """The answer of a server that has not stored an instance."""
    return {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [reason]}}]}}


@pytest.mark.parametrize(
    ("statuses", "content", "error", "message"),
    [
        ((), failed(0xA900), RefusedError, r"did not store the result \(failure reason 43264\)"),
        ((), failed(0xA700), UnavailableError, r"did not store the result \(failure reason 42752\)"),
        ((409,), {}, RefusedError, "HTTP status 409"),
        ((409,), failed(0xA900), RefusedError, r"did not store the result \(failure reason 43264\)"),
        ((409,), failed(0xA7FF), UnavailableError, r"did not store the result \(failure reason 43007\)"),
        ((409,), {"00081198": {"Value": [{"00081197": {}}]}}, RefusedError, "HTTP status 409"),
        ((409,), ["login"], RefusedError, "HTTP status 409"),
        ((503,), {}, UnavailableError, "HTTP status 503"),
        ((403,), {}, ServiceError, "HTTP status 403"),
    ],
)
def test_a_result_that_is_not_taken(
    statuses: tuple[int, ...],
    content: Any,
    error: type[Exception],
    message: str,
    serve: Any,
    write_study: WriteStudy,
    tmp_path: Path,
) -> None:
    """Refused for what it is, not now, and not with these credentials are told apart."""
    url, _ = serve(*statuses, content=json.dumps(content).encode(), media="application/dicom+json; charset=utf-8")
    (file,) = write_study(tmp_path / "study", 1, slices=1)
    with pytest.raises(error, match=message) as raised:
        DicomwebServer(url, NOBODY).store(file)
    assert type(raised.value) is error


def test_a_page_for_people_is_not_success(serve: Any, write_study: WriteStudy, tmp_path: Path) -> None:
    """A proxy that answers with its login stores nothing."""
    url, _ = serve(content=b"<html>login</html>", media="text/html")
    (file,) = write_study(tmp_path / "study", 1, slices=1)
    with pytest.raises(ServiceError, match="the exchange with the DICOMweb server failed") as raised:
        DicomwebServer(url, NOBODY).store(file)
    assert type(raised.value) is ServiceError


def test_a_redirection_loses_no_result(serve: Any, write_study: WriteStudy, tmp_path: Path) -> None:
    """A large result is sent in parts, of which nothing is left for the place that a proxy names."""
    target, _ = serve(content=b"")
    url, handler = serve(308)
    handler.location = f"{target}/studies"
    (file,) = write_study(tmp_path / "study", 1, slices=1)
    data = pydicom.dcmread(file)
    data.Rows, data.Columns, data.PixelData = 800, 800, bytes(800 * 800 * 2)
    data.save_as(file)
    with pytest.raises(ServiceError, match="the exchange with the DICOMweb server failed"):
        DicomwebServer(url, NOBODY).store(file)


def test_an_empty_list_of_failures_is_none(serve: Any, write_study: WriteStudy, tmp_path: Path) -> None:
    """Orthanc answers with one when it has stored everything."""
    url, _ = serve(content=json.dumps({"00081198": {"vr": "SQ"}}).encode())
    DicomwebServer(url, NOBODY).store(write_study(tmp_path / "study", 1, slices=1)[0])


@pytest.mark.parametrize("content", [b"<html>login</html>", b"[5]", b"{}"])
def test_an_answer_that_cannot_be_read_is_one_line(content: bytes, serve: Any) -> None:
    """Whatever libraries raise on the page of a proxy, the error has no traceback."""
    url, _ = serve(content=content)
    with pytest.raises(ServiceError, match="the exchange with the DICOMweb server failed"):
        DicomwebServer(url, NOBODY).image_series(STUDY)


def test_a_study_goes_to_an_archive_and_comes_back(orthanc: Any, write_study: WriteStudy, tmp_path: Path) -> None:
    """What is stored is found by its study, and each instance that is fetched has the same pixels."""
    files = write_study(tmp_path / "study", 1)
    server = DicomwebServer(orthanc.dicomweb, NOBODY)
    for file in files:
        server.store(file)
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    (series,) = server.image_series(study)
    assert series.instances == 4
    server.fetch(study, series, tmp_path / "fetched")
    pixels = [{d.SOPInstanceUID: d.PixelData for d in map(pydicom.dcmread, folder.iterdir())} for folder in
              (tmp_path / "study", tmp_path / "fetched")]  # fmt: skip
    assert pixels[0] == pixels[1]
    with pytest.raises(ServiceError, match="has 5 instances of a series, but gave 4"):
        server.fetch(study, ServedSeries(series.uid, 5), tmp_path / "again")
    with pytest.raises(ServiceError, match="has not got the study"):
        server.image_series("1.2.3.4.5")
