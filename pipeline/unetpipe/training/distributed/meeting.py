"""How processes that were started together find each other, also where some of them have been started again.

Where one process fails before it gets here, torchrun and `srun --kill-on-bad-exit` end the others. A plain `srun` lets
them go on, so that they must not wait long, and must be able to say for whom they waited.
"""

import secrets
import time
from collections.abc import Set
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from unetpipe.training.distributed.ranks import Ranks

MEETING = timedelta(minutes=2)
"""Longest time from the arrival of the first process to that of the last."""

_POLL_SECONDS = 0.05
_READING_SECONDS = 2.0  # that the other ranks have to read rank 0's verdict before its store ends with it


def meet(ranks: Ranks) -> Store:
    """Wait for the other ranks, and return a store that is theirs and new.

    When `torchrun` starts all ranks again after one has died, their store still holds the addresses of those before.
    So rank 0 names a part of the store that nobody has used, and every other rank asks it for that name under a name
    of its own, which no earlier start can have used either.

    Raises:
        RuntimeError: If some ranks do not come in time, with their numbers, or the place to meet cannot be reached.
    """
    # of an unknown size: a store of a known one waits for all ranks itself, and cannot say which is missing
    store, _, _ = next(rendezvous(f"{ranks.meeting}?rank={ranks.rank}&world_size=-1", timeout=MEETING))
    store.set_timeout(MEETING + timedelta(seconds=_READING_SECONDS))
    if ranks.rank == 0:
        name = secrets.token_hex(8)
        missing = _answer(store, name, ranks.size)
        store.set(f"missing/{name}", ", ".join(map(str, sorted(missing))))
    else:
        name = _ask(store, ranks.rank)
    if absent := store.get(f"missing/{name}").decode():  # waits for it
        if ranks.rank == 0:
            time.sleep(_READING_SECONDS)
        raise RuntimeError(f"process {absent} did not come")
    return PrefixStore(name, store)


def _ask(store: Store, rank: int) -> str:
    """Ask rank 0 for the name of the new part of the store, and let it know that the answer has arrived."""
    own = secrets.token_hex(8)
    store.set(f"asks/{rank}", own)
    name = store.get(f"answer/{own}").decode()  # waits for it
    store.set(f"knows/{name}/{rank}", "")
    return name


def _answer(store: Store, name: str, size: int) -> Set[int]:
    """Tell each rank that asks the name, until all know it or the time is up; return the ranks that do not."""
    missing, deadline = set(range(1, size)), time.monotonic() + MEETING.total_seconds()
    while missing and time.monotonic() < deadline:
        for rank in sorted(missing):
            if store.check([f"asks/{rank}"]):
                store.set(f"answer/{store.get(f'asks/{rank}').decode()}", name)
            if store.check([f"knows/{name}/{rank}"]):
                missing.remove(rank)
        time.sleep(_POLL_SECONDS)
    return missing
