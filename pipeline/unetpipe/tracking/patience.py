"""Patience with a store that has answered once, and is busy, restarting or out of reach now.

Several writers of a SQLite file can be refused at once ("database is locked"), by MLflow in this process or, as a 503,
by a server. What is repeated here must be the same each time, so that the store keeps it once.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer")

PATIENCE_SECONDS = 120.0
"""Seconds after which a call that failed again and again is given up."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 8.0
_RACES = 5  # that one call may lose
_PASSING = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}  # also what has no answer at all


def patiently(call: Callable[[], Answer], *, shared: bool = False) -> Answer:
    """Call a store, and call again after pauses that grow while it fails for a reason that may pass.

    Args:
        call: Sends the same each time.
        shared: Whether other runs may make the same thing at the same moment. The store then refuses all but one of
            them as a bad request, and finds the thing when it is asked again.

    Raises:
        Exception: Whatever MLflow raises for a reason that does not pass, or did not in time.
    """
    from mlflow.exceptions import MlflowException

    races = _RACES if shared else 0
    given_up, pause = time.monotonic() + PATIENCE_SECONDS, _FIRST_PAUSE_SECONDS
    while True:
        try:
            return call()
        except MlflowException as error:
            lost, races = error.error_code == "BAD_REQUEST" and races > 0, races - 1
            if not (lost or _may_pass(error)) or time.monotonic() + pause > given_up:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _may_pass(error: Any) -> bool:
    from sqlalchemy.exc import OperationalError

    cause = error.__cause__
    if isinstance(cause, OperationalError) and isinstance(cause.orig, sqlite3.Error):  # of a file
        return "locked" in str(cause)
    return error.error_code in _PASSING
