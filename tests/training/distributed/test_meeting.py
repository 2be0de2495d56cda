"""Processes that were started together find each other, or say who is missing; here as threads."""

import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from unetpipe.training.distributed import meeting
from unetpipe.training.distributed.meeting import meet
from unetpipe.training.distributed.ranks import Ranks


@pytest.fixture
def place() -> str:
    """Where to meet: a port of this machine that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def arrive(place: str, *ranks: int, size: int) -> list[str]:
    """What each rank that comes reads in the store after another has written there, or its error."""
    stores = []  # rank 0's serves the others until all are done

    def one(rank: int) -> str:
        try:
            store = meet(Ranks(rank=rank, size=size, local_rank=rank, local_size=size, meeting=place))
        except RuntimeError as error:
            return str(error)
        stores.append(store)
        store.set(f"from/{rank}", str(rank))
        return ",".join(store.get(f"from/{other}").decode() for other in ranks)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, ranks))


def test_all_ranks_share_a_store(place: str) -> None:
    """What one writes the others read."""
    assert arrive(place, 0, 1, 2, size=3) == ["0,1,2"] * 3


def test_every_rank_that_came_names_those_that_did_not(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the time of the meeting: a plain `srun` does not end the others where one has died before."""
    monkeypatch.setattr(meeting, "MEETING", timedelta(seconds=1))
    monkeypatch.setattr(meeting, "_READING_SECONDS", 0.5)
    assert arrive(place, 0, 2, size=5) == ["process 1, 3, 4 did not come"] * 2
    assert "timed out" in arrive(place, 1, 2, size=5)[0]
