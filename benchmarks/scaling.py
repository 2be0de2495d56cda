"""What docs/scaling.md computes, beside what is measured here.

    python benchmarks/scaling.py network WORK     # as root; WORK as for ranks.py
    python benchmarks/scaling.py scans --count 10000 --shards 64 --out /tmp/bench

`network` puts two ranks into network namespaces of their own, joined by a link of a given bandwidth and latency. It
sums vectors of several sizes over both, as the ranks of a training do with their gradients, and trains some steps,
beside the times that the model of docs/scaling.md gives. `scans` measures what grows with the number of scans: listing
them, which each shard does, and merging what the shards have reported.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from ranks import run_ranks
from slow_link import ADDRESSES, linked

LINKS = ((100, 0.0), (1000, 0.0), (1000, 1.0), (1000, 5.0))  # Mbit/s, ms one way
SIZES_MB = (1, 22.5, 125)
REPEATED = 3
GLOO_SEGMENT_MB = 1.05


def main() -> None:
    """Measure one of the two; or be one rank of the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("network").add_argument("work", type=Path)
    commands.add_parser("sums")
    scans = commands.add_parser("scans")
    scans.add_argument("--count", type=int, required=True)
    scans.add_argument("--shards", type=int, default=64)
    scans.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.command == "network":
        network(options.work)
    elif options.command == "sums":
        print(json.dumps(seconds_of_sums()))
    else:
        listing_and_merging(options.count, options.shards, options.out)


def ring_seconds(megabytes: float, ranks: int, mbit_s: float, latency_ms: float) -> float:
    """Time of gloo's all-reduce along a ring.

    Each rank sends 2(n-1) parts of 1/n, one after the other, and each part in segments of which each waits for the one
    before to arrive.

    Args:
        megabytes: Size of the vector.
        ranks: Number of ranks.
        mbit_s: Bandwidth between neighbours.
        latency_ms: Latency between neighbours, one way.
    """
    part = megabytes / ranks
    return 2 * (ranks - 1) * (part * 8 / mbit_s + (1 + part / GLOO_SEGMENT_MB) * latency_ms / 1000)


def network(work: Path) -> None:
    """Print measured and computed times for each link."""
    print(f"a step of one rank: {run_ranks(work, 1):.3f} s", flush=True)
    for mbit_s, latency_ms in LINKS:
        with linked(mbit_s, latency_ms) as within:
            for megabytes, seconds in zip(SIZES_MB, sums(within), strict=True):
                computed = ring_seconds(megabytes, 2, mbit_s, latency_ms)
                print(f"{mbit_s} Mbit/s, {latency_ms} ms, {megabytes} MB: {seconds:.3f} s, computed {computed:.3f} s")
            step = run_ranks(work, 2, ADDRESSES[0], within)
            print(f"{mbit_s} Mbit/s, {latency_ms} ms, a step of two ranks: {step:.3f} s", flush=True)


def sums(within: Sequence[Sequence[str]]) -> list[float]:
    """Seconds of an all-reduce of each size between the two namespaces."""
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": "29517"}
    ranks = [
        subprocess.Popen(
            [*words, sys.executable, __file__, "sums"],
            env=os.environ | meeting | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank, words in enumerate(within)
    ]
    outputs = [process.communicate()[0] for process in ranks]
    if any(process.returncode for process in ranks):
        raise SystemExit("a rank failed")
    return list(json.loads(outputs[0]))


def seconds_of_sums() -> list[float]:
    """Sum vectors of each size over the ranks; the shortest time of each."""
    import torch
    import torch.distributed as dist

    from unetpipe.training.distributed.group import joined
    from unetpipe.training.distributed.ranks import find_ranks

    times = []
    with joined(find_ranks(os.environ)):
        for megabytes in SIZES_MB:
            vector, measured = torch.ones(int(megabytes * 1e6) // 4), []
            for _ in range(REPEATED):
                dist.barrier()
                before = perf_counter()
                dist.all_reduce(vector)
                measured.append(perf_counter() - before)
            times.append(min(measured))
    return times


def listing_and_merging(count: int, shards: int, out: Path) -> None:
    """Print the seconds that it takes to list so many scans, and to merge the reports of so many shards."""
    import tempfile

    from unetpipe.config.infer import MergeConfig
    from unetpipe.documents import write_document
    from unetpipe.inference.inputs import find_inputs, shard_of
    from unetpipe.inference.predictions import ModelUsed, Prediction, Predictions, predictions_path
    from unetpipe.stages.merge import merge

    scans, labels = out / "scans", out / "labels"
    for folder in (scans, labels):
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / f"scan_{number:07}.nii.gz").touch()
    before = perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        cases = find_inputs([scans], ["image"], scratch=Path(scratch))
    print(f"listing {len(cases)} scans: {perf_counter() - before:.1f} s")
    model = ModelUsed(name="model", version="1", sha256="0" * 64)
    for number in range(1, shards + 1):
        shard = f"{number}/{shards}"
        written = tuple(
            Prediction(id=case.id, status="written", output=f"{case.file_name}.nii.gz", volumes_ml={"liver": 1.0})
            for case in shard_of(cases, shard)
        )
        report = Predictions(
            models=(model,), versions={"unetpipe": "1"}, device="cpu", settings={}, scans=len(written), cases=written
        )
        write_document(predictions_path(labels, shard), report)
    before = perf_counter()
    merge(MergeConfig(out=labels, shards=shards))
    print(f"merging {shards} reports: {perf_counter() - before:.1f} s")
    print(f"predictions.json: {predictions_path(labels).stat().st_size / 1e6:.1f} MB")


def call(*words: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
