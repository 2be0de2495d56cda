"""The processes that train together: how they meet, and what they say to each other between steps."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from unetpipe.components import first_line
from unetpipe.cores import available_cores
from unetpipe.errors import TrainingError
from unetpipe.progress import Advance
from unetpipe.training.distributed.meeting import MEETING, meet
from unetpipe.training.distributed.ranks import Ranks

Item = TypeVar("Item")

_APART = timedelta(minutes=30)  # that processes may be apart: rank 0 writes files while the others wait
_LET_GO_SECONDS = 0.5


class RankDiedError(TrainingError):
    """Another process of the training does not answer any more."""


class AgreedStopError(KeyboardInterrupt):
    """All ranks have agreed to stop, because one of them was asked to."""


class Group:
    """The processes that train one network, as one of them sees it. A single process is a group of its own.

    Attributes:
        rank: Rank of this process, from 0.
        size: Number of processes.
        local_size: Number of processes on this machine, which share its memory.
        cores: Number of processor cores that are this process's own.
    """

    def __init__(self, ranks: Ranks = Ranks()) -> None:  # noqa: B008 - it is frozen
        self.rank, self.size, self.local_size = ranks.rank, ranks.size, ranks.local_size
        self.cores = ranks.own_cores(available_cores(), os.cpu_count() or 1)

    def share_of(self, count: int) -> range:
        """Indices that are this rank's, of so many that the ranks divide among them."""
        return range(self.rank, count, self.size)

    def agree(self, progress: float, stop: bool) -> tuple[float, bool]:
        """Take rank 0's progress, and stop if any rank was asked to."""
        if self.size == 1:
            return progress, stop
        news = torch.tensor([progress if self.rank == 0 else 0.0, float(stop)], dtype=torch.float64)
        dist.all_reduce(news, dist.ReduceOp.MAX)
        return float(news[0]), bool(news[1])

    def gather(self, value: Any) -> list[Any]:
        """Give every rank the value of each rank, by rank.

        Args:
            value: A value that JSON can hold.
        """
        if self.size == 1:
            return [value]
        content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(content)
        dist.all_reduce(lengths)
        texts = torch.zeros((self.size, int(lengths.max())), dtype=torch.uint8)
        texts[self.rank, : len(content)] = content
        dist.all_reduce(texts)
        return [json.loads(bytes(text[:length].tolist())) for text, length in zip(texts, lengths, strict=True)]

    def map(
        self,
        work: Callable[[Item], Any],
        items: Sequence[Item],
        stop: threading.Event | None = None,
        advance: Advance | None = None,
    ) -> list[Any]:
        """Divide items among the ranks, and give every rank the results of all.

        Args:
            work: Maps an item to a value that JSON can hold.
            items: Items, the same on each rank.
            stop: Event that asks to stop.
            advance: Callback that receives the number of finished items.

        Returns:
            Results in the order of the items.

        Raises:
            KeyboardInterrupt: If any rank was asked to stop.
        """
        results: list[Any] = []
        for first in range(0, len(items), self.size):
            _, halt = self.agree(0.0, stop is not None and stop.is_set())
            if halt:
                raise AgreedStopError
            own = first + self.rank
            results += self.gather(work(items[own]) if own < len(items) else None)
            if advance is not None:
                advance(min(self.size, len(items) - first))
        return results[: len(items)]


@contextmanager
def joined(ranks: Ranks) -> Iterator[Group]:
    """Meet the other ranks, and stay with them until the block ends.

    CPU tensors go through gloo. Where there are GPUs, theirs go through NCCL; each rank must have chosen its device
    before it sends one.

    Raises:
        TrainingError: If some do not come.
        RankDiedError: If another rank dies while the block runs.
    """
    if ranks.size == 1:
        yield Group()
        return
    group = Group(ranks)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    try:
        dist.init_process_group(backend, store=meet(ranks), rank=ranks.rank, world_size=ranks.size, timeout=_APART)
    except (RuntimeError, ValueError) as error:  # torch's errors of stores and sockets, and a port that is no number
        raise TrainingError(
            f"the {ranks.size} processes of this training did not meet within {MEETING.seconds // 60} minutes: "
            f"{first_line(error)}"
        ) from error
    try:
        with _death_named():
            try:
                yield group
            except AgreedStopError:
                group.gather(None)  # a rank that ends first may end the others too: rank 0 has saved by now
                raise
    finally:
        # gloo's threads need Python's lock to let go of the last operations' tensors: without this rest they would
        # ask for it while the group, or the process, is being ended under that lock, and hang or abort the process
        time.sleep(_LET_GO_SECONDS)
        dist.destroy_process_group()


@contextmanager
def _death_named() -> Iterator[None]:
    """Turn the errors of a broken connection into one line."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):  # gloo has no error class of its own
            raise RankDiedError("another process of this training has died: the same command goes on") from error
        raise
