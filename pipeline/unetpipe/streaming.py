"""Items on their way from one to the next: loaded, worked on and saved at the same time, or taken some ahead."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
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


def paired(items: Iterable[Item], work: Callable[[Iterator[Item]], Iterator[Result]]) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, where work takes some items ahead of the results that it gives in order."""
    taken: deque[Item] = deque()

    def handed_on() -> Iterator[Item]:
        for item in items:
            taken.append(item)
            yield item

    for result in work(handed_on()):
        yield taken.popleft(), result


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

    def one_by_one(loaded: Iterator[tuple[Item, Loaded]]) -> Iterator[Result | Exception]:
        for item, one in loaded:
            result: Result | Exception
            try:
                result = work(item, one)
            except Exception as error:
                result = error
            yield result

    return stream_ahead(items, load, one_by_one, save)


def stream_ahead(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    work: Callable[[Iterator[tuple[Item, Loaded]]], Iterator[Result | Exception]],
    save: Callable[[Item, Result], Saved],
) -> Generator[Outcome[Item, Saved], None, None]:
    """Do as `stream` does, with work that may take items ahead of those that it gives results of.

    Args:
        items: Items in order.
        load: Loads an item.
        work: From the items that could be loaded to a result of each, in order, or the error that stopped it.
        save: Saves the result of an item.

    Yields:
        One outcome per item, in order.
    """
    loads: deque[tuple[Item, Future[Loaded]]] = deque()
    taken: deque[tuple[Item, Exception | None]] = deque()  # by work, or failed on the way to it
    saves: deque[tuple[Item, Future[Saved]]] = deque()
    waiting = iter(items)
    with ThreadPoolExecutor(1, "load") as loader, ThreadPoolExecutor(1, "save") as saver:

        def loaded() -> Iterator[tuple[Item, Loaded]]:
            while True:
                loads.extend((item, loader.submit(load, item)) for item in islice(waiting, 2 - len(loads)))
                if not loads:
                    return
                item, loading = loads.popleft()
                try:
                    one = loading.result()
                except Exception as error:
                    taken.append((item, error))
                else:
                    taken.append((item, None))
                    yield item, one

        def failed() -> Iterator[tuple[Item, Future[Saved]]]:
            """The items before the next one that was worked on."""
            while taken and (error := taken[0][1]) is not None:
                yield taken.popleft()[0], _failure(error)

        try:
            for result in work(loaded()):
                saves.extend(failed())
                item = taken.popleft()[0]
                saves.append(
                    (item, _failure(result) if isinstance(result, Exception) else saver.submit(save, item, result))
                )
                while len(saves) > 1 or (saves and saves[0][1].done()):
                    yield _outcome(*saves.popleft())
            saves.extend(failed())
            while saves:
                yield _outcome(*saves.popleft())
        finally:
            loader.shutdown(wait=False, cancel_futures=True)
            saver.shutdown(wait=False, cancel_futures=True)


def _failure(error: Exception) -> "Future[Saved]":
    future: Future[Saved] = Future()
    future.set_exception(error)
    return future


def _outcome(item: Item, future: Future[Saved]) -> Outcome[Item, Saved]:
    error = future.exception()
    if error is None:
        return Outcome(item, future.result(), None)
    if not isinstance(error, Exception):
        raise error
    return Outcome(item, None, error)
