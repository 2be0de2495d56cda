"""Sending results, beside the segmentation: a destination that is away for a night holds up nothing else."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from unetpipe.errors import ImageFileError, UnetpipeError
from unetpipe.service.node import Node
from unetpipe.service.retries import RefusedError

log = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 300.0
_GIVEN_UP_SECONDS = 86400.0


class Destination(Protocol):
    """Takes results."""

    def store(self, path: Path) -> None:
        """Store one instance.

        Raises:
            RefusedError: If it does not take this one.
            ImageFileError: If the file is damaged.
            UnetpipeError: If it does not take any now.
        """


class Delivery:
    """Sends the results of a node, the oldest first, and removes each as soon as it is taken.

    A result that the destination refuses becomes a dead letter. Whatever else goes wrong may be mended, such as a wrong
    password, so that the result waits for a day, from the first failure since the node was started. Where a kill comes
    between the answer of the destination and the removal, the same instance is sent again; an archive holds it once.

    Args:
        node: Node whose results are sent.
        destination: System that takes them.
    """

    def __init__(self, node: Node, destination: Destination) -> None:
        self._results, self._spool, self._metrics = node.results, node.spool, node.metrics
        self._destination = destination
        self._failing_since: dict[str, float] = {}  # by a clock that does not jump
        self._over = threading.Event()
        self._new = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)

    def wake(self) -> None:
        """Announce a new result."""
        self._new.set()

    @property
    def is_alive(self) -> bool:
        """Whether results are being sent."""
        return self._thread.is_alive()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send in a thread of its own until left; what is not sent by then is sent at the next start."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._new.set()
            self._thread.join()

    def _run(self) -> None:
        wait = _FIRST_WAIT_SECONDS
        while not self._over.is_set():
            self._new.clear()
            if self._send_all():
                wait = _FIRST_WAIT_SECONDS
                if not self._over.is_set():
                    self._new.wait()
            else:
                self._over.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _send_all(self) -> bool:
        """Try to send each result; False where one has to wait."""
        waits = False
        for file in self._waiting():
            if self._over.is_set():
                break
            try:
                self._destination.store(file)
            except (RefusedError, ImageFileError) as error:
                self._give_up(file, str(error))
            except Exception as error:  # also what libraries raise on an answer that is damaged
                waits = True
                reason = str(error) if isinstance(error, UnetpipeError) else type(error).__name__
                if time.monotonic() - self._failing_since.setdefault(file.name, time.monotonic()) > _GIVEN_UP_SECONDS:
                    self._give_up(file, f"not taken for a day: {reason}")
                else:
                    self._metrics.count("send_failures")
                    log.warning("result %s waits: %s", file.stem, reason)
            else:
                file.unlink()
                self._failing_since.pop(file.name, None)
                self._metrics.count("results_sent")
                log.info("result %s: sent", file.stem)
                self._spool.recount()
        return not waits

    def _give_up(self, file: Path, reason: str) -> None:
        self._metrics.count("send_failures")
        log.warning("result %s is a dead letter: %s", file.stem, reason)
        self._failing_since.pop(file.name, None)
        self._spool.bury_result(file, reason)

    def _waiting(self) -> list[Path]:
        """The results, the oldest first."""
        return sorted(self._results.glob("*.dcm"), key=lambda file: file.stat().st_mtime)
