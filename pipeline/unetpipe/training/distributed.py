"""Several processes of one machine that learn one network: each its part of every batch, all of them the same step.

Rank 0 decides, looks, saves and tells; the others only learn. They are commands of ours with RANK and WORLD_SIZE set,
whether this module starts them or torchrun does. Before each step all agree, on the CPU and without waiting for a GPU,
how far training is and whether to stop. A rank that dies ends the others.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import yaml
from torch import Tensor, nn

from unetpipe.config import TrainConfig
from unetpipe.errors import TrainingError
from unetpipe.progress import Advance

Item = TypeVar("Item")

_STEP = timedelta(minutes=10)  # that ranks may be apart within a step
_WAIT = timedelta(days=7)  # that the others wait for rank 0 to look at held-out cases
_GOODBYE = 30.0  # seconds for the others to end
_POLL = 0.05
_READY = "UNETPIPE_READY"  # names a file that a process makes before it joins the one that started it


class RankDiedError(TrainingError):
    """Another rank does not answer any more."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that learn together.

    Attributes:
        rank: Of this process.
        size: How many there are.
        started: Whether somebody else, such as torchrun, has started them.
    """

    rank: int = 0
    size: int = 1
    started: bool = False

    @classmethod
    def of(cls, gpus: int) -> "Ranks":
        """Take RANK and WORLD_SIZE where they are set, else be the first of `gpus`."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        return cls(int(os.environ["RANK"]), size, True) if size > 1 else cls(size=gpus)

    def device(self, device: torch.device) -> torch.device:
        """Return the device of this rank: a GPU of its own, or the CPU with the others.

        Raises:
            TrainingError: If there are not so many.
        """
        if self.size == 1 or device.type == "cpu":
            return device
        if device.type != "cuda" or device.index is not None:
            raise TrainingError(f"several GPUs need --device cuda, or cpu for a trial, got {device}")
        found = torch.cuda.device_count()
        if found < self.size:
            raise TrainingError(f"{self.size} GPUs are not on this machine: {found} found")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", self.rank)))


class Group:
    """The processes that train one network, as one of them sees it. A single process is a group of its own.

    Attributes:
        rank: Of this process, from 0.
        size: Number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1, control: dist.ProcessGroup | None = None) -> None:
        self.rank, self.size, self._control = rank, size, control

    def share_of(self, count: int) -> range:
        """Indices that are this rank's, of so many that the ranks divide among them."""
        return range(self.rank, count, self.size)

    def agree(self, progress: float, stop: bool) -> tuple[float, bool]:
        """Take rank 0's progress, and stop if any rank was asked to.

        Raises:
            RankDiedError: If another rank has died.
        """
        if self._control is None:
            return progress, stop
        news = torch.tensor([progress if self.rank == 0 else 0.0, float(stop)], dtype=torch.float64)
        _all_reduce(news, dist.ReduceOp.MAX, self._control)
        return float(news[0]), bool(news[1])

    def gather(self, value: Any) -> list[Any]:
        """Give every rank the value of each rank, by rank.

        Args:
            value: What JSON can hold.

        Raises:
            RankDiedError: If another rank has died.
        """
        if self._control is None:
            return [value]
        content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(content)
        _all_reduce(lengths, dist.ReduceOp.SUM, self._control)
        texts = torch.zeros((self.size, int(lengths.max())), dtype=torch.uint8)
        texts[self.rank, : len(content)] = content
        _all_reduce(texts, dist.ReduceOp.MAX, self._control)
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
            work: From an item to what JSON can hold.
            items: The same on each rank.
            stop: Asks to stop.
            advance: Called with the number of items that are done.

        Returns:
            Results in the order of the items.

        Raises:
            KeyboardInterrupt: If any rank was asked to stop.
            RankDiedError: If another rank has died.
        """
        results: list[Any] = []
        for first in range(0, len(items), self.size):
            _, halt = self.agree(0.0, stop is not None and stop.is_set())
            if halt:
                raise KeyboardInterrupt
            own = first + self.rank
            results += self.gather(work(items[own]) if own < len(items) else None)
            if advance is not None:
                advance(min(self.size, len(items) - first))
        return results[: len(items)]


@contextmanager
def together(ranks: Ranks, device: torch.device, config: TrainConfig) -> Iterator[Group]:
    """Join the other ranks, having started them if nobody else has.

    Raises:
        TrainingError: If they do not come.
    """
    if ranks.size == 1:
        yield Group()
        return
    with _others(ranks, config) as address:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        threads = torch.get_num_threads()
        if device.type == "cpu":
            torch.set_num_threads(max(1, threads // ranks.size))
        try:
            dist.init_process_group(backend, init_method=address, rank=ranks.rank, world_size=ranks.size, timeout=_STEP)
            yield Group(ranks.rank, ranks.size, dist.new_group(backend="gloo", timeout=_WAIT))
        finally:
            torch.set_num_threads(threads)
            if dist.is_initialized():
                dist.destroy_process_group()


def total(values: Tensor) -> Tensor:
    """Sum over all ranks; the gradient is that of this rank's part, so that gradients add up to the whole batch's."""
    if not dist.is_initialized():
        return values
    whole = values.detach().clone()
    _all_reduce(whole, dist.ReduceOp.SUM)
    return values + (whole - values.detach())


def mean_over_ranks(value: Tensor) -> Tensor:
    """Mean over all ranks; the gradient is that of this rank's share, so that gradients add up to the mean's."""
    return total(value / dist.get_world_size()) if dist.is_initialized() else value


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all ranks, in one piece: small next to a 3-D network's activations."""
    if not dist.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    _all_reduce(flat, dist.ReduceOp.SUM)
    for gradient, part in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _all_reduce(values: Tensor, operation: dist.ReduceOp.RedOpType, group: dist.ProcessGroup | None = None) -> None:
    try:
        dist.all_reduce(values, operation, group)
    except RuntimeError as error:  # gloo's and NCCL's only error
        raise RankDiedError("another process of this training has died: the same command goes on") from error


@contextmanager
def _others(ranks: Ranks, config: TrainConfig) -> Iterator[str]:
    """Start ranks 1 and up, unless somebody has, and give the address where all meet; in the end let none live on."""
    if ranks.started:
        if ready := os.environ.get(_READY):
            Path(ready).touch()
        yield "env://"
        return
    with tempfile.TemporaryDirectory(prefix="unetpipe-") as name, ExitStack() as running:
        folder, port = Path(name), str(free_port())
        (folder / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks.size)}
        others = []
        for rank in range(1, ranks.size):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), _READY: str(folder / f"{rank}.ready")}
            others.append(_start(folder, rank, os.environ | place | own))
            running.callback(_end, others[-1])
        try:
            while len(list(folder.glob("*.ready"))) < len(others):
                if any(other.poll() is not None for other in others):
                    raise RankDiedError("a process of this training could not start")
                time.sleep(_POLL)
            yield f"tcp://127.0.0.1:{port}"
        except RankDiedError as error:
            raise RankDiedError(f"{error}{_last_words(folder)}") from error
        with suppress(subprocess.TimeoutExpired):
            for other in others:
                other.wait(_GOODBYE)


def _start(folder: Path, rank: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "unetpipe", "train", "--config", str(folder / "config.yaml")]
    with (folder / f"{rank}.txt").open("wb") as said:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _last_words(folder: Path) -> str:
    """What a rank said before it died."""
    said = [text.splitlines()[-1] for file in folder.glob("*.txt") if (text := file.read_text(errors="replace"))]
    return "".join(f" ({line})" for line in said)


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
