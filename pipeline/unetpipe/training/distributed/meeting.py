"""How processes that were started together find each other, also where some of them have been started again."""

import secrets
import time
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from unetpipe.training.distributed.ranks import Ranks

MEETING = timedelta(minutes=5)
"""From the start of the first process to that of the last."""

_POLL_SECONDS = 0.05


def meet(ranks: Ranks) -> Store:
    """Wait for the other ranks, and return a store that is theirs and new.

    When `torchrun` starts all ranks again after one has died, their store still holds the addresses of those before.
    So rank 0 names a part of the store that nobody has used, and every other rank asks it for that name under a name
    of its own, which no earlier start can have used either.

    Raises:
        RuntimeError: If some do not come in time, or the place to meet cannot be reached.
    """
    store, _, _ = next(rendezvous(ranks.meeting, ranks.rank, ranks.size, timeout=MEETING))
    own = secrets.token_hex(8)
    if ranks.rank == 0:
        _answer(store, own, set(range(1, ranks.size)))
        return PrefixStore(own, store)
    store.set(f"asks/{ranks.rank}", own)
    named = store.get(f"answer/{own}").decode()  # waits for it
    store.set(f"knows/{named}/{ranks.rank}", "")
    return PrefixStore(named, store)


def _answer(store: Store, name: str, missing: set[int]) -> None:
    """Tell each rank that asks the name, until all of them know it."""
    deadline = time.monotonic() + MEETING.total_seconds()
    while missing:
        for rank in sorted(missing):
            if store.check([f"asks/{rank}"]):
                store.set(f"answer/{store.get(f'asks/{rank}').decode()}", name)
            if store.check([f"knows/{name}/{rank}"]):
                missing.remove(rank)
        if time.monotonic() > deadline:
            raise RuntimeError(f"rank {', '.join(map(str, sorted(missing)))} did not come")
        time.sleep(_POLL_SECONDS)
