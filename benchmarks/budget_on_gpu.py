"""What versions of a plan reach in the steps that a CPU has time for, the steps themselves taken on a GPU.

    python benchmarks/budget_on_gpu.py measure /tmp/bench/hippocampus /tmp/bench/nuclei --minutes 15 60 >steps.jsonl
    python benchmarks/budget_on_gpu.py reach steps.jsonl --folder /tmp/bench --processes 8

`benchmarks/budget.py` trains each version of a plan for as long as a budget says, which takes an hour for each figure
of an hour. Here `measure` says, on the CPU in question, which version the rule takes for each work folder and budget,
and how many steps of every version there is time for; `reach` takes as many on a GPU, where they last milliseconds, by
the same code. A row has the mean Dice of fold 1's held-out cases on the network's grid, which decided nothing.
"""

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from recipes import FOLD, train

from unetpipe.config.train import TrainConfig
from unetpipe.dataset.planning.plan import Configuration
from unetpipe.training.budget_choice import Cost, PlanVersion, _timetable, choose
from unetpipe.training.distributed.group import Group
from unetpipe.training.first_state import _versions
from unetpipe.training.measurement import Stopwatch
from unetpipe.training.setup import Setup

ITERATIONS = 250  # of an epoch at most, as by default
FEWEST = 100  # steps, below which a version is not trained
SETTING_UP = 0.02  # of the budget


def main() -> None:
    """Measure, or train what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("measure", help="steps of each version that this CPU has time for")
    measuring.add_argument("work", type=Path, nargs="+")
    measuring.add_argument("--minutes", type=float, nargs="+", required=True)
    measuring.set_defaults(run=measure)
    reaching = commands.add_parser("reach", help="Dice after as many steps")
    reaching.add_argument("steps", type=Path, help="what `measure` printed")
    reaching.add_argument("--folder", type=Path, required=True, help="that holds the work folders")
    reaching.add_argument("--minutes", type=float, nargs="+", help="these budgets alone")
    reaching.add_argument("--seeds", type=int, nargs="+", default=[0])
    reaching.add_argument("--device", default="cuda")
    reaching.add_argument("--processes", type=int, default=8)
    reaching.add_argument("--threads", type=int, default=1, help="of each process")
    reaching.add_argument("--seconds", type=float, default=float("inf"), help="begin no training after these")
    reaching.set_defaults(run=reach)
    options = parser.parse_args()
    options.run(options)


def measure(options: argparse.Namespace) -> None:
    """Print a row for each version and budget: how many steps, and whether the rule takes it."""
    for work in options.work:
        setup = Setup.of(TrainConfig(work=work, fold=FOLD, device="cpu"), Group(), torch.device("cpu"))
        cases = len(setup.data.validation)
        versions = [one for one in _versions(setup) if one.name == setup.data.name]
        shortest, longest = (60 * f(options.minutes) for f in (min, max))
        costs: dict[int, Cost] = {}
        for number in sorted(range(len(versions)), key=lambda n: versions[n].step_work):
            like = min(costs, key=lambda n: abs(versions[n].step_work - versions[number].step_work), default=None)
            if like is not None:
                factor = versions[number].step_work / versions[like].step_work
                if longest / (costs[like].step_seconds * factor) < FEWEST:
                    break
            costs[number] = Stopwatch(setup, shortest).measure(versions[number])
            print(versions[number].change, costs[number], file=sys.stderr)
        numbers = sorted(costs)
        for minutes in options.minutes:
            limit = 60 * minutes
            known = {id(versions[n]): replace(costs[n], elapsed_seconds=SETTING_UP * limit) for n in numbers}

            def cost(version: PlanVersion, known: dict[int, Cost] = known) -> Cost:
                return known[id(version)]

            chosen = choose(
                [versions[n] for n in numbers],
                cost,
                limit_seconds=limit,
                cases=cases,
                iterations=ITERATIONS,
            )
            for n in numbers:
                own = versions[n].configuration
                row = {
                    "data": work.name,
                    "minutes": minutes,
                    "version": n,
                    "configuration": own.model_dump(mode="json"),
                    "step_seconds": round(costs[n].step_seconds, 4),
                    "steps": int(_timetable(versions[n], cost(versions[n]), limit, cases, ITERATIONS).steps),
                    "rule": own == chosen.configuration,
                }
                print(json.dumps(row), flush=True)


def reach(options: argparse.Namespace) -> None:
    """Train each version that has enough steps, the shortest budget first, and print rows as they end."""
    rows = [json.loads(line) for line in options.steps.read_text().splitlines()]
    wanted = [
        (row, seed)
        for row in rows
        for seed in options.seeds
        if (row["steps"] >= FEWEST or row["rule"]) and (not options.minutes or row["minutes"] in options.minutes)
    ]
    wanted.sort(key=lambda pair: (pair[1], pair[0]["minutes"]))
    until = time.time() + options.seconds
    run = partial(reached, folder=options.folder, device=options.device, until=until)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, context, torch.set_num_threads, (options.threads,)) as pool:
        for done in as_completed([pool.submit(run, row, seed) for row, seed in wanted]):
            print(json.dumps(done.result()), flush=True)


def reached(row: dict[str, Any], seed: int, *, folder: Path, device: str, until: float) -> dict[str, Any]:
    """What one training reached."""
    own = Configuration.model_validate(row.pop("configuration"))
    found = train("plan", seed, folder / row["data"], own, row["steps"], device=device, until=until)
    told = {"patch": own.patch_size, "batch": own.batch_size, "features": own.features[0], "seed": seed}
    return {**row, **told, "dice": found and found["dice"], "seconds": found and found["seconds"]}


if __name__ == "__main__":
    main()
