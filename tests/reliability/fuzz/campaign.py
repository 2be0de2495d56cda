"""Starts the processes that try inputs, and counts what they find: ``python campaign.py --inputs 12000 --seed 1``."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unetpipe.cores import available_cores

HERE = Path(__file__).parent
_FEW = 400
"""Inputs that one process tries before another takes over."""


@dataclass
class Tally:
    """The outcomes of one target's inputs.

    Attributes:
        outcomes: Number of inputs by outcome: result, refused, fault, hung, crashed.
        faults: What went wrong, each with the command that repeats it.
        seconds: Processor time that reading took.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


def try_inputs(seed: str, shares: dict[str, tuple[int, int]], processes: int) -> dict[str, Tally]:
    """Try inputs of several targets.

    Args:
        seed: Seed of all inputs.
        shares: First and last number of each target's inputs.
        processes: Number of processes at a time.
    """
    tallies = {name: Tally() for name in shares}
    batches: list[list[tuple[str, int, int]]] = [[]]
    for name, (first, last) in shares.items():
        for start in range(first, last, _FEW):
            part = (name, start, min(start + _FEW, last))
            if sum(end - begin for _, begin, end in batches[-1]) + part[2] - part[1] > _FEW:
                batches.append([])
            batches[-1].append(part)
    with ThreadPoolExecutor(processes) as threads:
        for lines in threads.map(lambda batch: _try_batch(seed, batch), filter(None, batches)):
            for line in lines:
                tally = tallies[line["target"]]
                tally.outcomes[line["outcome"]] += 1
                tally.seconds += line.get("seconds", 0.0)
                if line["outcome"] not in ("result", "refused"):
                    again = f"python {Path(__file__).name} --seed {seed} --only '{line['target']}' {line['number']}"
                    tally.faults.append(f"{again}\n{line.get('file', '')}: {line['outcome']}: {line['text']}")
    return tallies


def _try_batch(seed: str, batch: list[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """Try inputs in a process, and in another one from the next input on where one ends it."""
    done: list[dict[str, Any]] = []
    while batch:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            process = subprocess.run(
                [sys.executable, str(HERE / "child.py"), folder, seed],
                input="\n".join(map(json.dumps, batch)),
                capture_output=True,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": folder, "HOME": folder},
                check=False,
            )
        lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
        done += [line for line in lines if "outcome" in line]
        if process.returncode == 0:
            return done
        if not lines:
            raise RuntimeError(f"no input was tried: {process.stderr[-3000:]}")
        last = lines[-1]
        if "outcome" in last:
            raise RuntimeError(f"the process ended between two inputs, after {last}: {process.stderr[-3000:]}")
        kind = "hung" if "Timeout (" in process.stderr else "crashed"
        done.append({**last, "outcome": kind, "text": f"exit {process.returncode}: {process.stderr[-2000:]}"})
        at = next(
            index
            for index, part in enumerate(batch)
            if part[0] == last["target"] and part[1] <= last["number"] < part[2]
        )
        batch = [(batch[at][0], int(last["number"]) + 1, batch[at][2]), *batch[at + 1 :]]
        batch = [part for part in batch if part[1] < part[2]]
    return done


def main() -> None:
    """Try the inputs that the command line asks for; print counts, or with --json all there is to know."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=12_000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", nargs="*", default=[], help="names of targets, and the number of one input")
    parser.add_argument("--processes", type=int, default=available_cores())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))
    from all_targets import TARGETS

    numbers = [int(one) for one in options.only if one.isdigit()]
    names = [one for one in options.only if not one.isdigit()]
    chosen = [target for target in TARGETS if not names or target.name in names]
    total = sum(target.weight for target in chosen)
    shares = {target.name: (0, max(1, round(options.inputs * target.weight / total))) for target in chosen}
    if numbers:
        shares = {target.name: (number, number + 1) for target in chosen for number in numbers}
    started = time.perf_counter()
    tallies = try_inputs(options.seed, shares, options.processes)
    seconds = time.perf_counter() - started
    if options.json:
        found = {name: vars(tally) for name, tally in tallies.items()}
        print(json.dumps({"seed": options.seed, "seconds": seconds, "targets": found}))
        return
    for name, tally in tallies.items():
        print(f"{name}: {dict(tally.outcomes)}, {tally.seconds:.0f} s of processor time")
        for fault in tally.faults:
            print(f"  {fault}")
    print(f"{sum(sum(tally.outcomes.values()) for tally in tallies.values())} inputs in {seconds:.0f} s")


if __name__ == "__main__":
    main()
