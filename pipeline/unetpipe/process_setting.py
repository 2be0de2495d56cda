"""A library's setting that holds for the whole process, changed only while one of its threads needs it so."""

import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from types import TracebackType
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ProcessSetting(ContextDecorator, Generic[Value]):
    """Sets a value when the first thread enters, and puts the one before back when the last thread leaves.

    Importing a module of this package must not change how other code of the process works, so a setting such as a
    library's verbosity is held this way around the calls that need it. A context manager and a decorator.

    Args:
        read: Returns the value that is set.
        write: Sets a value.
        value: Value of the setting inside the context.
    """

    def __init__(self, read: Callable[[], Value], write: Callable[[Value], object], value: Value) -> None:
        self._read, self._write, self._value = read, write, value
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        """Set the value, unless another thread has."""
        with self._lock:
            if self._inside == 0:
                self._before = self._read()
                self._write(self._value)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the value before back, unless another thread still needs it."""
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._write(self._before)
