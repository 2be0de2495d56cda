"""The device that a rank computes on, and the module that learns on it along with those of the other ranks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unetpipe.cores import available_cores
from unetpipe.errors import TrainingError
from unetpipe.torch_threads import torch_threads
from unetpipe.training.distributed.ranks import Ranks


@contextmanager
def rank_device(ranks: Ranks, device: torch.device) -> Iterator[torch.device]:
    """Give a rank a GPU of its own, or its share of the CPU's threads until the block ends.

    Args:
        ranks: This process among the ranks.
        device: Requested device, without an index if there are several ranks.

    Raises:
        TrainingError: If this machine has fewer GPUs than ranks.
    """
    if ranks.size == 1:
        yield device
    elif device.type == "cpu":
        threads, available = torch.get_num_threads(), available_cores()
        own = ranks.own_cores(available, os.cpu_count() or 1)
        with torch_threads(threads * own // available):  # threads are fewer where cores are hyper-threaded
            yield device
    elif device.type == "cuda" and device.index is None:
        device = own_gpu(ranks, torch.cuda.device_count())
        torch.cuda.set_device(device)
        yield device
    else:
        raise TrainingError(f"several processes need --device cuda, or cpu, got {device}")


def own_gpu(ranks: Ranks, found: int) -> torch.device:
    """The GPU of a rank, of so many that it sees.

    Raises:
        TrainingError: If there are fewer than ranks on this machine.
    """
    index = 0 if found == 1 and ranks.placed_by_slurm else ranks.local_rank
    if index >= found:
        raise TrainingError(f"{ranks.local_size} processes need as many GPUs on this machine: {found} found")
    return torch.device("cuda", index)


def data_parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """Let a module's gradients be averaged over the ranks during the backward pass; alone, it stays as it is.

    Every step is an update, so that there is no step between updates in which `no_sync` would save anything.

    Args:
        module: Module on `device`; it receives rank 0's weights.
        device: Device of this rank.
    """
    if not dist.is_initialized():
        return module
    # with one channel, channels first and last are one layout under two names (strides), and torch expects a parameter
    # and its gradient, of which some operations choose one name and some the other, to have the same
    for parameter in module.parameters():
        if parameter.is_contiguous():
            parameter.data = _with_usual_strides(parameter.data)
            if parameter.requires_grad:  # else it is frozen, and has no gradient
                parameter.register_hook(_with_usual_strides)  # type: ignore[no-untyped-call] # torch has no types for it
    return DistributedDataParallel(
        module,
        device_ids=[device] if device.type == "cuda" else None,
        static_graph=True,  # the same in every step; parameters that no output depends on are found in the first one
        gradient_as_bucket_view=True,
    )


def _with_usual_strides(tensor: Tensor) -> Tensor:
    """Give a contiguous tensor the strides that a new one of its shape has; the data stay where they are."""
    return tensor.flatten().view(tensor.shape)
