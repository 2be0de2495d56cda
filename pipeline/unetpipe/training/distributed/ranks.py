"""The rank of this process among those that train together, read from the environment that its launcher set.

`torchrun` sets RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, and so does `train --gpus`, which uses its engine. In
a step that `srun` started, as in the jobs of `unetpipe submit`, Slurm's variables say the same. Importing this module
does not import torch.
"""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from unetpipe.errors import TrainingError

_FIRST_PORT, _PORTS = 12_000, 20_000  # below those that Linux gives to outgoing connections


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: Rank of this process, from 0.
        size: Number of processes.
        local_rank: Local rank of this process among those of its machine.
        local_size: Number of processes on its machine.
        meeting: URL at which all find each other, in `torch.distributed`'s form.
        placed_by_slurm: Whether Slurm started this process, and may have given it a GPU and cores of its own.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    meeting: str = "env://"
    placed_by_slurm: bool = False

    def own_cores(self, available: int, machine: int) -> int:
        """Number of cores that belong to this process.

        Slurm binds the tasks of a step to cores of their own, where a site lets it; elsewhere the processes of a
        machine share what is available to each of them.

        Args:
            available: Number of cores that this process may run on.
            machine: Number of cores of the machine.
        """
        is_bound = self.placed_by_slurm and available < machine
        return available if is_bound else max(1, available // self.local_size)


def find_ranks(environment: Mapping[str, str]) -> Ranks:
    """Read the environment; a process that nobody started with others is the only one.

    Raises:
        TrainingError: If what is written there contradicts itself, or Slurm's first node cannot be found.
    """
    try:
        ranks = _of_torchrun(environment) or _of_slurm(environment) or Ranks()
    except (KeyError, ValueError) as error:
        raise TrainingError(f"the environment names other processes but not which this one is: {error}") from error
    if not (0 <= ranks.rank < ranks.size and 0 <= ranks.local_rank < ranks.local_size <= ranks.size):
        raise TrainingError(
            f"the environment says rank {ranks.rank} of {ranks.size}, "
            f"and {ranks.local_rank} of {ranks.local_size} on this machine"
        )
    return ranks


def _of_torchrun(environment: Mapping[str, str]) -> Ranks | None:
    size = int(environment.get("WORLD_SIZE", "1"))
    if size == 1:
        return None
    rank = int(environment["RANK"])
    return Ranks(
        rank=rank,
        size=size,
        local_rank=int(environment.get("LOCAL_RANK", rank)),
        local_size=int(environment.get("LOCAL_WORLD_SIZE", size)),
    )


def _of_slurm(environment: Mapping[str, str]) -> Ranks | None:
    # SLURM_NTASKS is also set in a batch script, which is one process; only srun sets this one
    size = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if size == 1:
        return None
    node = int(environment["SLURM_NODEID"])
    host = environment.get("MASTER_ADDR") or _first_host(environment["SLURM_STEP_NODELIST"])
    own_port = _FIRST_PORT + (10 * int(environment["SLURM_JOB_ID"]) + int(environment["SLURM_STEP_ID"])) % _PORTS
    return Ranks(
        rank=int(environment["SLURM_PROCID"]),
        size=size,
        local_rank=int(environment["SLURM_LOCALID"]),
        local_size=tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])[node],
        meeting=f"tcp://{host}:{environment.get('MASTER_PORT', own_port)}",
        placed_by_slurm=True,
    )


def tasks_per_node(text: str) -> list[int]:
    """Read Slurm's short form: ``2(x3),1`` is three nodes with two tasks each, and one with one."""
    counts: list[int] = []
    for count, repeated in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(repeated or 1)
    return counts


def _first_host(nodes: str) -> str:
    """First of a list such as ``node[01-04],other``, which Slurm itself expands."""
    if not set("[,") & set(nodes):
        return nodes
    try:
        answer = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True, timeout=60
        )
        return answer.stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise TrainingError(
            f"scontrol does not say which is the first of {nodes}: set MASTER_ADDR to its name"
        ) from error
