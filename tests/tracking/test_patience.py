"""A store that answered once is asked again; a reason that does not pass is not."""

import sqlite3
from collections.abc import Callable

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE
from sqlalchemy.exc import OperationalError

from unetpipe.tracking import patience
from unetpipe.tracking.patience import patiently


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE_SECONDS", 0.01)


def _failing(times: int, error: MlflowException) -> tuple[Callable[[], str], list[int]]:
    calls: list[int] = []

    def call() -> str:
        calls.append(len(calls))
        if len(calls) <= times:
            raise error
        return "answer"

    return call, calls


def _of_the_database(message: str, kind: type[Exception] = sqlite3.OperationalError) -> MlflowException:
    error = MlflowException(message, error_code=TEMPORARILY_UNAVAILABLE)
    error.__cause__ = OperationalError("UPDATE runs", {}, kind(message))
    return error


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("API request failed with timeout exception"),
        MlflowException("too many 503 error responses"),
        _of_the_database("database is locked"),
        _of_the_database("server closed the connection unexpectedly", ConnectionError),
    ],
)
def test_what_may_pass_is_asked_again(error: MlflowException) -> None:
    """A server that is silent or busy, a file that others write to, and a database that is started anew."""
    call, calls = _failing(3, error)
    assert patiently(call) == "answer"
    assert len(calls) == 4


@pytest.mark.parametrize(
    "error",
    [
        MlflowException.invalid_parameter_value("no such name"),
        _of_the_database("attempt to write a readonly database"),
        _of_the_database("database or disk is full"),
    ],
)
def test_what_does_not_pass_is_raised_at_once(error: MlflowException) -> None:
    """A request that is wrong, and a file that cannot be written."""
    call, calls = _failing(1, error)
    with pytest.raises(MlflowException):
        patiently(call)
    assert len(calls) == 1


def test_a_lost_race_is_asked_again_a_few_times() -> None:
    """Another run has made the same thing; what is refused again and again is a bad request indeed."""
    error = MlflowException("UNIQUE constraint failed", error_code=BAD_REQUEST)
    call, _ = _failing(2, error)
    assert patiently(call, shared=True) == "answer"
    for shared, expected in ((False, 1), (True, 6)):
        call, calls = _failing(100, error)
        with pytest.raises(MlflowException):
            patiently(call, shared=shared)
        assert len(calls) == expected


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not come back is given up."""
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.1)
    call, calls = _failing(1000, MlflowException("API request failed"))
    with pytest.raises(MlflowException, match="API request failed"):
        patiently(call)
    assert 1 < len(calls) < 12
