"""Each rank has a GPU of its own, or its share of the CPU."""

import os
from dataclasses import replace

import pytest
import torch

from unetpipe.errors import TrainingError
from unetpipe.training.distributed import devices
from unetpipe.training.distributed.devices import own_gpu, rank_device
from unetpipe.training.distributed.ranks import Ranks

SECOND = Ranks(rank=5, size=8, local_rank=1, local_size=4)


def test_gpus_are_counted_against_the_processes_of_this_machine() -> None:
    """Eight processes on two machines need four GPUs on each, and the second one of a machine takes its second GPU."""
    assert own_gpu(SECOND, found=4) == torch.device("cuda:1")
    with pytest.raises(TrainingError, match="4 processes need as many GPUs on this machine: 1 found"):
        own_gpu(SECOND, found=1)


def test_a_process_to_which_slurm_shows_one_gpu_takes_it() -> None:
    """With `--gpus-per-task=1` each sees its own as the first."""
    bound = Ranks(rank=5, size=8, local_rank=1, local_size=4, placed_by_slurm=True)
    assert own_gpu(bound, found=1) == torch.device("cuda:0")
    assert own_gpu(bound, found=4) == torch.device("cuda:1")


def test_a_single_gpu_cannot_be_named_for_several_processes() -> None:
    """`cuda:1` is one, and MPS has one."""
    for name in ("cuda:1", "mps"):
        with (
            pytest.raises(TrainingError, match="several processes need --device cuda, or cpu, got"),
            rank_device(SECOND, torch.device(name)),
        ):
            pass


def test_processes_on_a_cpu_divide_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until they are through; a single one keeps them."""
    monkeypatch.setattr(devices, "available_cores", lambda: 16)
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        with rank_device(SECOND, torch.device("cpu")):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 8
        with rank_device(Ranks(), torch.device("cpu")):
            assert torch.get_num_threads() == 8
        monkeypatch.setattr(os, "cpu_count", lambda: 64)  # Slurm has bound each of four to sixteen of them
        with rank_device(replace(SECOND, placed_by_slurm=True), torch.device("cpu")):
            assert torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)
