"""Sums and means over the patches of all ranks, through which the loss of a batch is one number on every rank."""

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum over all ranks.

    The gradient is that of this rank's part, times the number of ranks: `DistributedDataParallel` takes the mean over
    ranks, and so the gradient of the whole batch comes out.
    """
    if not dist.is_initialized():
        return values
    whole = values.detach().clone()
    dist.all_reduce(whole)
    return whole + dist.get_world_size() * (values - values.detach())


def mean_over_ranks(value: Tensor, samples: int) -> Tensor:
    """Mean over the samples of all ranks, with the gradient of `sum_over_ranks`.

    Args:
        value: Mean over this rank's samples, a scalar.
        samples: Number of this rank's samples.
    """
    if not dist.is_initialized():
        return value
    total, count = sum_over_ranks(torch.stack([value * samples, value.new_tensor(float(samples))])).unbind()
    return total / count
