"""Seconds per optimiser step, sampling and augmentation included.

    python benchmarks/train_step.py WORK [--fold 0] [--device cpu]

`WORK` is what `unetpipe preprocess` made. Measured for the plan's features and for half of them, in the precision that
`train` would choose and in float32. Give it the machine alone.
"""

import argparse
import statistics
import time
from contextlib import closing
from pathlib import Path

import torch

from unetpipe.dataset.training_set import read_training_set
from unetpipe.model.augment import Augmentation, source_shape
from unetpipe.model.device import compute_dtype, resolve_device
from unetpipe.model.learner import Learner
from unetpipe.model.loader import PatchLoader
from unetpipe.model.network import network_definition

STEPS = 8  # the first warms up


def main() -> None:
    """Print one line per network and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    data = read_training_set(arguments.work, arguments.fold, None)
    plan, device, augmentation = data.configuration, resolve_device(arguments.device), Augmentation()
    loader = PatchLoader(
        store=data.store,
        ids=data.training,
        patch=plan.patch_size,
        source=source_shape(plan.patch_size, augmentation),
        batch_size=plan.batch_size,
        seed=0,
        cache=True,
    )
    for features in (plan.features, tuple(n // 2 for n in plan.features)):
        for dtype in dict.fromkeys((compute_dtype(device, "auto"), torch.float32)):
            definition = network_definition(
                "dynunet", plan, len(data.manifest.channels), len(data.manifest.labels), features
            )
            learner = Learner(definition, plan.patch_size, "adamw", device, dtype, seed=0)
            seconds = []
            with closing(loader.batches()) as batches:
                for _ in range(STEPS):
                    before = time.perf_counter()
                    loss, _ = learner.step(next(batches), 0.5, augmentation)
                    loss.item()
                    seconds.append(time.perf_counter() - before)
            median = statistics.median(seconds[1:])
            print(f"features {features}, {dtype}: median {median:.3f} s, least {min(seconds):.3f} s", flush=True)


if __name__ == "__main__":
    main()
