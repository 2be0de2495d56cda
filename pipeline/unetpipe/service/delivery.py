"""Sending results, beside the segmentation: a destination that is away for a night holds up nothing else."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from unetpipe.errors import ImageFileError, UnetpipeError
from unetpipe.service.node import Node
from unetpipe.service.retries import RefusedError, reason_of

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
    A person may take results away, and this machine's disk may be full: neither ends the sending.

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
            if self._sent_all():
                wait = _FIRST_WAIT_SECONDS
                if not self._over.is_set():
                    self._new.wait()
            else:
                self._over.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _sent_all(self) -> bool:
        """Try to send each result; False where one has to wait."""
        done = True
        try:
            for file in self._waiting():
                if self._over.is_set():
                    break
                done &= self._is_dealt_with(file)
        except OSError as error:
            log.warning("results wait: %s", reason_of(error))
            return False
        return done

    def _is_dealt_with(self, file: Path) -> bool:
        """Try to send a result; False where it has to wait."""
        try:
            return self._sent(file)
        except OSError as error:  # of this machine's disk
            self._metrics.count("send_failures")
            log.warning("result %s waits: %s", file.stem, reason_of(error))
            return False

    def _sent(self, file: Path) -> bool:
        """Send a result or give it up; False where it has to wait.

        Raises:
            OSError: If this machine's disk does not take what follows from the answer.
        """
        try:
            self._destination.store(file)
        except Exception as error:  # also what libraries raise on an answer that is damaged
            if not file.exists():
                self._failing_since.pop(file.name, None)
                log.warning("result %s was taken away before it was sent", file.stem)
                return True
            if isinstance(error, RefusedError | ImageFileError):
                self._give_up(file, str(error))
                return True
            reason = str(error) if isinstance(error, UnetpipeError) else type(error).__name__
            if time.monotonic() - self._failing_since.setdefault(file.name, time.monotonic()) > _GIVEN_UP_SECONDS:
                self._give_up(file, f"not taken for a day: {reason}")
            else:
                self._metrics.count("send_failures")
                log.warning("result %s waits: %s", file.stem, reason)
            return False
        file.unlink(missing_ok=True)
        self._failing_since.pop(file.name, None)
        self._metrics.count("results_sent")
        log.info("result %s: sent", file.stem)
        self._spool.recount()
        return True

    def _give_up(self, file: Path, reason: str) -> None:
        """Make a result a dead letter.

        Raises:
            OSError: If the disk does not take it; the result stays where it is.
        """
        self._spool.bury_result(file, reason)
        self._metrics.count("send_failures")
        log.warning("result %s is a dead letter: %s", file.stem, reason)
        self._failing_since.pop(file.name, None)

    def _waiting(self) -> list[Path]:
        """The results, the oldest first."""
        written = {}
        for file in self._results.glob("*.dcm"):
            with suppress(FileNotFoundError):  # it was taken away
                written[file] = file.stat().st_mtime
        return sorted(written, key=written.__getitem__)
