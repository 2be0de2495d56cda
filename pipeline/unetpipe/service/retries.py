"""Errors of other systems, by what can be done about them: ask again at once, wait for a person, or give up."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from unetpipe.errors import ServiceError

Value = TypeVar("Value")


class UnavailableError(ServiceError):
    """Another system does not answer, or is too busy: the same request may succeed in a moment."""


class RefusedError(ServiceError):
    """Another system does not take this object, whenever it is sent."""


def reason_of(error: OSError) -> str:
    """What this machine's disk says, such as that it is full, without the name of a file."""
    return type(error).__name__ if error.errno is None else os.strerror(error.errno)


def retried(action: Callable[[], Value], *, attempts: int = 5, wait_seconds: float = 1.0) -> Value:
    """Repeat an action while the other system is unavailable; waits twice as long each time.

    Args:
        action: Action; it is repeated after an UnavailableError.
        attempts: Number of times that it is done at most.
        wait_seconds: Time before the second attempt.

    Raises:
        UnavailableError: If the last attempt fails too.
    """
    for attempt in range(attempts - 1):
        try:
            return action()
        except UnavailableError:
            time.sleep(wait_seconds * 2**attempt)
    return action()
