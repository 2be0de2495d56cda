"""Processes that are started again do not meet those that were there before."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from unittest.mock import patch

import pytest
from torch.distributed import HashStore, Store

from unetpipe.training.distributed import meeting
from unetpipe.training.distributed.ranks import Ranks


def names(store: Store, size: int) -> list[str]:
    """Let all ranks meet in a store, as threads; what each then reads, of what rank 0 has written there."""
    written = threading.Event()

    def come(rank: int) -> str:
        own = meeting.meet(Ranks(rank=rank, size=size, local_rank=rank, local_size=size))
        if rank == 0:
            assert not own.check(["word"])
            own.set("word", "of this start")
            written.set()
        written.wait(30)
        return own.get("word").decode() if own.check(["word"]) else "nothing"

    with patch.object(meeting, "rendezvous", lambda *_, **__: iter([(store, 0, 0)])), ThreadPoolExecutor(size) as pool:
        return list(pool.map(come, range(size)))


def test_each_start_has_a_part_of_the_store_that_is_new() -> None:
    """In one store, twice, after a start of which only the last rank had come: all meet, and read nothing older."""
    store = HashStore()
    store.set_timeout(timedelta(seconds=30))
    store.set("asks/2", "who died")
    for _ in range(2):
        assert names(store, 3) == ["of this start"] * 3


def test_who_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that there is for it."""
    monkeypatch.setattr(meeting, "MEETING", timedelta(0))
    store = HashStore()
    monkeypatch.setattr(meeting, "rendezvous", lambda *_, **__: iter([(store, 0, 0)]))
    with pytest.raises(RuntimeError, match="rank 1, 2 did not come"):
        meeting.meet(Ranks(size=3, local_size=3))
