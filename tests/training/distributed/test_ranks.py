"""Which process this is follows from what its starter has written into the environment."""

import subprocess
import sys
from pathlib import Path

import pytest

from unetpipe.errors import TrainingError
from unetpipe.training.distributed.ranks import Ranks, find_ranks, tasks_per_node

SRUN = {
    "SLURM_JOB_ID": "417",
    "SLURM_STEP_ID": "2",
    "SLURM_NTASKS": "3",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "gpu7",
    "SLURM_STEP_TASKS_PER_NODE": "1,2",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "1",
}


def test_a_process_that_nobody_started_with_others_is_alone() -> None:
    """Also one of a world of one, and in a batch script, where Slurm counts the tasks of steps that may follow."""
    batch = {"SLURM_JOB_ID": "417", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    one = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    for environment in ({}, batch, one, SRUN | {"SLURM_STEP_NUM_TASKS": "1"}):
        assert find_ranks(environment) == Ranks()


def test_torchrun_numbers_processes_and_those_of_each_machine() -> None:
    """Its variables win over Slurm's, in whose job it may run."""
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    expected = Ranks(rank=5, size=8, local_rank=1, local_size=4)
    assert find_ranks(torchrun) == find_ranks(SRUN | torchrun) == expected
    assert find_ranks({"RANK": "1", "WORLD_SIZE": "2"}) == Ranks(rank=1, size=2, local_rank=1, local_size=2)


def test_slurm_numbers_the_tasks_of_a_step() -> None:
    """They meet on its first node, at a port that is the same for all tasks of the step and another one in others."""
    ranks = find_ranks(SRUN)
    assert ranks == Ranks(rank=2, size=3, local_rank=1, local_size=2, meeting="tcp://gpu7:16172", placed_by_slurm=True)
    assert find_ranks(SRUN | {"SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"}).meeting == ranks.meeting
    assert find_ranks(SRUN | {"SLURM_STEP_ID": "3"}).meeting != ranks.meeting
    assert find_ranks(SRUN | {"MASTER_ADDR": "head", "MASTER_PORT": "99"}).meeting == "tcp://head:99"


def test_slurm_expands_its_lists_of_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through scontrol, whose first line is the first node; without it one line says what to set."""
    environment = SRUN | {"SLURM_STEP_NODELIST": "gpu[7-8,11]"}
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames gpu[7-8,11]" ] && printf "gpu7\\ngpu8\\ngpu11\\n"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert find_ranks(environment).meeting == "tcp://gpu7:16172"
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TrainingError, match=r"which is the first of gpu\[7-8,11\]: set MASTER_ADDR"):
        find_ranks(environment)


@pytest.mark.parametrize(("text", "counts"), [("1", [1]), ("2(x3)", [2, 2, 2]), ("2(x3),1", [2, 2, 2, 1])])
def test_tasks_per_node_are_read(text: str, counts: list[int]) -> None:
    """Slurm's short form names a count, and how many nodes in a row have it."""
    assert tasks_per_node(text) == counts


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "not which this one is: 'RANK'"),
        ({"WORLD_SIZE": "2", "RANK": "first"}, "not which this one is: invalid literal"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "rank 2 of 2, and 2 of 2 on this machine"),
    ],
)
def test_an_environment_that_contradicts_itself_is_refused(environment: dict[str, str], message: str) -> None:
    """In one line."""
    with pytest.raises(TrainingError, match=message):
        find_ranks(environment)


def test_looking_for_ranks_loads_no_torch() -> None:
    """The command line does so before it knows whether anything is to be trained."""
    code = "import sys, unetpipe.training.distributed.ranks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("environment", "available", "cores"),
    [({}, 32, 32), ({"RANK": "1", "WORLD_SIZE": "4"}, 32, 8), (SRUN, 32, 16), (SRUN, 6, 6)],
)
def test_ranks_of_a_machine_share_its_cores(environment: dict[str, str], available: int, cores: int) -> None:
    """Of 32, also where there are more ranks on other machines; those that Slurm has bound to some keep them."""
    assert find_ranks(environment).own_cores(available, 32) == cores
