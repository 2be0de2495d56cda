"""Training steps of one rank and of two that share its batch, each of which has one core of its own.

    python benchmarks/ranks.py WORK

`WORK` is a work folder that `unetpipe preprocess` has made; the network is the plan's with a quarter of its features,
in float32. Of each pair of runs the shorter one counts, since anything else that runs on the machine can only slow them
down. Give it the machine alone. `scaling.py` runs the same steps between two network namespaces.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import perf_counter

BATCH, STEPS, RUNS = 8, 12, 2


def main() -> None:
    """Print the seconds of a step with one rank and with two, and the efficiency; or be one rank of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--as-rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_rank:
        print(json.dumps(seconds_of_steps(options.work)))
        return
    seconds = {size: min(run_ranks(options.work, size) for _ in range(RUNS)) for size in (1, 2)}
    for size, value in seconds.items():
        print(f"{size} rank{'s' if size > 1 else ''}: {value:.3f} s per step of {BATCH} patches")
    print(f"efficiency: {seconds[1] / (2 * seconds[2]):.2f}")


def run_ranks(work: Path, size: int, place: str = "127.0.0.1", within: Sequence[Sequence[str]] = ((), ())) -> float:
    """Median seconds of a step of so many ranks.

    Args:
        work: Work folder.
        size: Number of ranks.
        place: Address at which the ranks meet.
        within: Words before the command of each rank, such as those that enter its network namespace.
    """
    with socket.socket() as free:
        free.bind(("", 0))
        meeting = {"WORLD_SIZE": str(size), "MASTER_ADDR": place, "MASTER_PORT": str(free.getsockname()[1])}
    ranks = [
        subprocess.Popen(
            [*within[rank], "taskset", "--cpu-list", str(rank), sys.executable, __file__, str(work), "--as-rank"],
            env=_environment(rank) | meeting,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    outputs = [process.communicate()[0] for process in ranks]
    if any(process.returncode for process in ranks):
        raise SystemExit("a rank failed")
    return statistics.median(json.loads(outputs[0])[2:])


def _environment(rank: int) -> Mapping[str, str]:
    return os.environ | {"RANK": str(rank), "OMP_NUM_THREADS": "1"}


def seconds_of_steps(work: Path) -> list[float]:
    """Train as one rank for some steps."""
    import torch

    from unetpipe.config.train import TrainConfig
    from unetpipe.training.distributed.devices import rank_device
    from unetpipe.training.distributed.group import joined
    from unetpipe.training.distributed.ranks import find_ranks
    from unetpipe.training.setup import Setup

    ranks = find_ranks(os.environ)
    with joined(ranks) as group, rank_device(ranks, torch.device("cpu")) as device:
        setup = replace(Setup.of(TrainConfig(work=work, device="cpu"), group, device), dtype=torch.float32)
        plan = setup.data.configuration
        narrow = plan.model_copy(update={"features": tuple(n // 4 for n in plan.features)})
        setup = setup.following(setup.data.name, narrow)
        learner = setup.learner(setup.network(), "muon")
        seconds = []
        with closing(setup.loader(BATCH).batches()) as batches:
            for _ in range(STEPS):
                group.agree(0.0, stop=False)
                before = perf_counter()
                loss, _ = learner.step(next(batches), 0.5, setup.augmentation)
                loss.item()
                seconds.append(perf_counter() - before)
    return seconds


if __name__ == "__main__":
    main()
