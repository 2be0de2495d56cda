"""The experiment that all runs of a store share."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from unetpipe.tracking.store import _experiment


class _Client:
    """A store in which another process makes the experiment between being asked for it and being told to make it."""

    def __init__(self, *, others: bool) -> None:
        self._others, self._asked = others, 0

    def get_experiment_by_name(self, _name: str) -> Any:
        self._asked += 1
        return SimpleNamespace(experiment_id="7") if self._others and self._asked > 1 else None

    def create_experiment(self, *_: Any, **__: Any) -> str:
        raise MlflowException("it exists, or the store is broken")


def test_two_that_make_it_at_once_share_it(tmp_path: Path) -> None:
    """The one that comes second takes the first one's; an error that is another one is not hidden."""
    assert _experiment(_Client(others=True), "http://127.0.0.1", tmp_path) == "7"
    with pytest.raises(MlflowException):
        _experiment(_Client(others=False), "http://127.0.0.1", tmp_path)
