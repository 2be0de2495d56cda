"""Signals of a batch system, for the commands that do not handle them: the same interruption as Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from unetpipe.stop_signals import STOP_SIGNALS


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let the first signal to stop raise KeyboardInterrupt, so that a command records its results and ends with 130.

    Without this, `infer` would lose the records of the last scans when its job is preempted, and as the first process
    of a container it would not get SIGTERM at all. Further signals are ignored while the command ends, except Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in STOP_SIGNALS if name != "SIGINT" and hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
