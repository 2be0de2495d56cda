"""Start ranks on this machine, by the engine of `torchrun`."""

import logging
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from unetpipe.config.train import TrainConfig
from unetpipe.errors import TrainingError
from unetpipe.interpreter import module_words
from unetpipe.training.distributed.group import RankDiedError

RANK_MODULE = "unetpipe.cli.rank"
"""Module that a rank runs, with the path of a config as its argument."""
STOPPED = 130
"""Exit code of a rank that was asked to stop and has saved."""

_PATIENCE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"  # of torch's launcher since 2.10; before, it was half a minute
_SAVING_SECONDS = "180"  # that ranks have to save after a signal, before they are killed
_LOGGERS = ("torch.distributed.elastic", "torch.distributed.launcher")


def launch(config: TrainConfig, processes: int) -> None:
    """Train with so many processes of this machine, and wait for them. The first one shows progress on stderr.

    Args:
        config: Options for every process.
        processes: Number of processes.

    Raises:
        TrainingError: If a process fails; in the words of the one that failed first.
        KeyboardInterrupt: If a signal asked to stop: everything is saved.
    """
    with tempfile.TemporaryDirectory(prefix="unetpipe-") as name, _quiet(), _environment(), _own_signal_handlers():
        folder = Path(name)
        (folder / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
        redirected = {rank: Std.ALL if rank else Std.OUT for rank in range(processes)}
        settings = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=str(folder / "ranks"), redirects=redirected),
        )
        try:
            elastic_launch(settings, sys.executable)(*module_words(RANK_MODULE), str(folder / "config.json"))
        except SignalException as error:
            raise KeyboardInterrupt from error
        except ChildFailedError as error:
            if any(failure.exitcode == STOPPED for failure in error.failures.values()):
                raise KeyboardInterrupt from error
            raise _reason(error.failures, folder) from error


def _reason(failures: dict[int, ProcessFailure], folder: Path) -> TrainingError:
    """The error of the process that failed first; processes that only lost contact with it do not count."""
    told = {rank: text for rank, failure in failures.items() if (text := _recorded(failure))}
    own = [text for text in told.values() if not text.startswith(RankDiedError.__name__)]
    if own:
        return TrainingError(own[0].partition(": ")[2])
    rank, failure = next((item for item in failures.items() if item[0] not in told), next(iter(failures.items())))
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        return RankDiedError(f"process {rank} of this training was killed by {name}: the same command goes on")
    said = "".join(path.read_text(errors="replace") for path in folder.glob(f"ranks/**/{rank}/stderr.log"))
    last = f": {said.splitlines()[-1]}" if said else ""
    return RankDiedError(f"process {rank} of this training ended with exit code {failure.exitcode}{last}")


def _recorded(failure: ProcessFailure) -> str:
    """The error that a process has written down, as ``Class: message``; empty where it could not."""
    message: Any = failure.message
    return str(message["message"]) if isinstance(message, dict) else ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's launcher from printing what is said here in one line."""
    # each module's logger has a level of its own, so that its package's does not count
    names = [name for name in logging.root.manager.loggerDict if name.startswith(_LOGGERS)]
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Let SIGUSR1 and SIGUSR2 stop the ranks as SIGTERM does, and undo what torch's launcher does with other signals.

    Outside the main thread Python delivers no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def as_sigterm(_number: int, _frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    handlers = {number: signal.getsignal(number) for number in (getattr(signal, name) for name in names)}
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, as_sigterm)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _environment() -> Iterator[None]:
    """Give the ranks time to save, and leave behind none of the variables that torch's launcher sets here."""
    before = {name: os.environ.get(name) for name in ("TORCHELASTIC_SIGNALS_TO_HANDLE", _PATIENCE)}
    os.environ.setdefault(_PATIENCE, _SAVING_SECONDS)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
