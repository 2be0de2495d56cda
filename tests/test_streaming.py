"""Three stations work at the same time, errors stay with their item, and nothing hangs."""

import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from unetpipe.streaming import paired, stream, stream_ahead


def test_outcomes_come_in_order_with_values() -> None:
    """Every item passes load, work and save once."""
    outcomes = list(stream(range(20), lambda n: n + 1, lambda _, x: x * 2, lambda n, x: (n, x)))
    assert [(o.item, o.value, o.error) for o in outcomes] == [(n, (n, 2 * (n + 1)), None) for n in range(20)]


@pytest.mark.parametrize("station", ["load", "work", "save"])
def test_an_error_stops_its_item_only(station: str) -> None:
    """Wherever it is raised, the error comes out under its item and all others get through."""

    def at(name: str, n: int) -> int:
        if name == station and n % 3 == 1:
            raise OSError(28, f"no space for {n}")
        return n

    outcomes = list(stream(range(10), lambda n: at("load", n), lambda n, _: at("work", n), lambda n, _: at("save", n)))
    assert [o.item for o in outcomes] == list(range(10))
    assert [o.item for o in outcomes if o.error] == [1, 4, 7]
    assert all(isinstance(o.error, OSError) for o in outcomes if o.error)


def test_stations_overlap() -> None:
    """While one item is worked on, the next one loads and the last one is saved: each waits for the other two."""
    together = threading.Barrier(3)

    def meet(n: int, item: int) -> None:
        if n == item:
            together.wait(timeout=300)

    outcomes = list(
        stream(range(5), lambda n: meet(n, 3), lambda n, _: meet(n, 2), lambda n, _: meet(n, 1)),
    )
    assert [outcome.error for outcome in outcomes] == [None] * 5


def test_no_more_than_a_few_items_are_in_flight() -> None:
    """A slow writer holds the loader back."""
    loaded, saved, most = 0, 0, 0
    lock = threading.Lock()

    def load(_: int) -> None:
        nonlocal loaded, most
        with lock:
            loaded += 1
            most = max(most, loaded - saved)

    def save(_: int, __: None) -> None:
        nonlocal saved
        time.sleep(0.01)
        with lock:
            saved += 1

    list(stream(range(50), load, lambda *_: None, save))
    assert most <= 5


def test_items_are_taken_as_they_are_needed() -> None:
    """The list of items may be endless: the first outcome comes at once."""
    endless = iter(int, 1)
    outcomes = stream(endless, lambda n: n, lambda _, x: x, lambda _, x: x)
    assert next(outcomes).value == 0
    outcomes.close()


def test_an_interrupt_ends_both_threads(tmp_path: Path) -> None:
    """Ctrl-C while working finishes the write under way, leaves no thread behind and comes out as what it is."""
    before = threading.active_count()

    def work(n: int, _: int) -> int:
        if n == 2:
            raise KeyboardInterrupt
        return n

    def save(n: int, _: int) -> None:
        time.sleep(0.05)
        (tmp_path / str(n)).touch()

    with pytest.raises(KeyboardInterrupt):
        list(stream(range(100), lambda n: n, work, save))
    assert threading.active_count() == before
    assert sorted(file.name for file in tmp_path.iterdir())[0] == "0"


def by_threes(items: Iterator[int]) -> Iterator[int]:
    while three := list(islice(items, 3)):
        yield from (10 * n for n in three)


def test_items_are_paired_with_results_that_lag_behind() -> None:
    """Work that takes three at a time gives each its own result."""
    assert list(paired(range(7), by_threes)) == [(n, 10 * n) for n in range(7)]


@pytest.mark.parametrize("bad", [(), (0,), (2, 3), (6,), tuple(range(7))])
def test_work_may_take_items_ahead(bad: tuple[int, ...]) -> None:
    """Outcomes stay in order, with each item's own value, wherever items cannot be loaded, worked on or saved."""

    def load(n: int) -> int:
        if n in bad:
            raise OSError(f"{n}")
        return n

    def work(loaded: Iterator[tuple[int, int]]) -> Iterator[int | Exception]:
        return (ValueError("work") if n == 50 else n for n in by_threes(n for _, n in loaded))

    def save(n: int, result: int) -> tuple[int, int]:
        if n == 4:
            raise ValueError("save")
        return n, result

    outcomes = list(stream_ahead(range(7), load, work, save))
    assert [one.item for one in outcomes] == list(range(7))
    assert [one.item for one in outcomes if isinstance(one.error, OSError)] == list(bad)
    assert {one.item for one in outcomes if isinstance(one.error, ValueError)} == {4, 5} - set(bad)
    assert all(one.value == (one.item, 10 * one.item) for one in outcomes if one.error is None)
