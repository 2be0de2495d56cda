"""Health and metrics of a node by HTTP, for this machine only: ``/healthz`` and ``/metrics``."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from unetpipe.errors import ServiceError
from unetpipe.service.metrics import Metrics

_LOOPBACK = "127.0.0.1"


@contextmanager
def serving(port: int, metrics: Metrics, problems: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Answer requests until left.

    ``/healthz`` gives 200 and ``ok``, or 503 and a line for each problem.

    Args:
        port: Port on the loopback address.
        metrics: Metrics for ``/metrics``.
        problems: Returns what is wrong now, one line each.

    Raises:
        ServiceError: If the port is taken.
    """

    class Answer(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            found = problems() if self.path == "/healthz" else ()
            if self.path == "/healthz":
                self._send(503 if found else 200, "\n".join(found or ["ok"]) + "\n")
            elif self.path == "/metrics":
                self._send(200, metrics.text())
            else:
                self._send(404, "expected /healthz or /metrics\n")

        def _send(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Requests are not logged: a monitor asks every few seconds."""

    try:
        server = ThreadingHTTPServer((_LOOPBACK, port), Answer)
    except OSError as error:
        raise ServiceError(f"--health-port {port}: {error.strerror}") from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
