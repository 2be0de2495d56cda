"""Holding work back so that what is in flight fits in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class MemoryBudget:
    """Lets work begin while the bytes it estimates fit under a limit; a single piece may always go alone.

    Args:
        limit_bytes: None does not limit.
    """

    def __init__(self, limit_bytes: int | None) -> None:
        self._limit = limit_bytes
        self._used = 0
        self._changed = Condition()

    @contextmanager
    def hold(self, estimated_bytes: int) -> Iterator[None]:
        """Wait until there is room, and take it until the context ends."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._limit is None or self._used == 0 or self._used + estimated_bytes <= self._limit
            )
            self._used += estimated_bytes
        try:
            yield
        finally:
            with self._changed:
                self._used -= estimated_bytes
                self._changed.notify_all()
