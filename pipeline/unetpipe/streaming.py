"""Load, work, save: three stations that work on different items at the same time, with a bounded number in between."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")
Saved = TypeVar("Saved")


@dataclass(frozen=True)
class Outcome(Generic[Item, Saved]):
    """The outcome of one item: a value, or the error that stopped it."""

    item: Item
    value: Saved | None
    error: Exception | None


def stream(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    work: Callable[[Item, Loaded], Result],
    save: Callable[[Item, Result], Saved],
) -> Generator[Outcome[Item, Saved], None, None]:
    """Load the next item in one thread and save the last one in another while the caller's thread works.

    An error stops its item only. At most one item waits loaded and one worked, beside the one that each station holds.
    Closing the generator, or an interrupt, waits for the load and save under way and starts no others.

    Yields:
        One outcome per item, in order.
    """
    loads: deque[tuple[Item, Future[Loaded]]] = deque()
    saves: deque[tuple[Item, Future[Saved]]] = deque()
    waiting = iter(items)
    with ThreadPoolExecutor(1, "load") as loader, ThreadPoolExecutor(1, "save") as saver:
        try:
            while True:
                loads.extend((item, loader.submit(load, item)) for item in islice(waiting, 2 - len(loads)))
                if not loads:
                    break
                item, loading = loads.popleft()
                try:
                    saving = saver.submit(save, item, work(item, loading.result()))
                except Exception as error:
                    saving = Future()
                    saving.set_exception(error)
                saves.append((item, saving))
                while len(saves) > 1 or (saves and saves[0][1].done()):
                    yield _outcome(*saves.popleft())
            while saves:
                yield _outcome(*saves.popleft())
        finally:
            loader.shutdown(wait=False, cancel_futures=True)
            saver.shutdown(wait=False, cancel_futures=True)


def _outcome(item: Item, future: Future[Saved]) -> Outcome[Item, Saved]:
    error = future.exception()
    if error is None:
        return Outcome(item, future.result(), None)
    if not isinstance(error, Exception):
        raise error
    return Outcome(item, None, error)
