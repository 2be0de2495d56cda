"""What single changes of the training are worth: the same steps on the same cases, by several seeds.

    python benchmarks/recipes.py --work /tmp/bench/hippocampus --version 2 --steps 1200
    python benchmarks/recipes.py --work ... --variants plan "label smoothing 0.1" --seeds 0 1 2 --processes 8

Each work folder is one that `unetpipe preprocess` made; `--version` says which of the smaller versions of its plan is
trained, that a budget in minutes weighs (0: the plan). Trainings run on fold 1 (fold 0 is kept for comparisons with
other programs), several at a time with `--processes`. A row is the mean Dice of the held-out cases on the network's
grid, which decided nothing. At the end each variant is compared with `plan`: the mean difference over seeds.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional

from unetpipe.config.train import TrainConfig
from unetpipe.dataset.planning.plan import Configuration
from unetpipe.dataset.planning.reduction import reductions
from unetpipe.dataset.training_set import read_training_set
from unetpipe.imaging.network_input import IGNORED
from unetpipe.metrics.overlap import mean_dice
from unetpipe.networks.device import resolve_device
from unetpipe.training.distributed.group import Group
from unetpipe.training.optimization import learner
from unetpipe.training.optimization.loss import Loss, deep_supervision_loss
from unetpipe.training.setup import Setup

FOLD = 1


@dataclass(frozen=True, kw_only=True)
class Smoothed(Loss):
    """Cross-entropy against labels of which every class gets a share."""

    share: float

    def _of_classes(self, logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
        log_probabilities = torch.log_softmax(logits, dim=1)
        right = log_probabilities.gather(1, label.unsqueeze(1)).squeeze(1)
        extra = ((right - log_probabilities.mean(1)) * valid).sum() / valid.sum().clamp_min(1)
        return super()._of_classes(logits, label, valid) + self.share * extra


def full_resolution_only(levels: Sequence[Tensor], label: Tensor, loss: Loss) -> Tensor:
    """No deep supervision; heads get no gradient but zeros."""
    return loss(levels[0], label) + sum(0 * level.float().sum() for level in levels[1:])


def averaged(levels: Sequence[Tensor], label: Tensor, loss: Loss) -> Tensor:
    """Coarse levels against the share of each class in a coarse voxel, in place of its nearest voxel."""
    total, weights = deep_supervision_loss(levels[:1], label, loss), 1.0
    inside = (label != IGNORED).float().unsqueeze(1)
    shares = functional.one_hot(label.long().clamp_min(0), levels[0].shape[1]).movedim(-1, 1).float() * inside
    pool = functional.adaptive_avg_pool3d if label.ndim == 4 else functional.adaptive_avg_pool2d
    for number, logits in enumerate(levels[1:], start=1):
        weight, size = 0.5**number, logits.shape[2:]
        target, valid = pool(shares, size), pool(inside, size)
        log_probabilities = torch.log_softmax(logits.float(), dim=1)
        entropy = -(target * log_probabilities).sum() / valid.sum().clamp_min(1e-6)
        over = [0, *range(2, logits.ndim)]
        probabilities = log_probabilities.exp()
        both = (probabilities * target).sum(over)
        union = (probabilities.square() * valid).sum(over) + target.square().sum(over)
        dice = ((2 * both + 1e-5) / (union + 1e-5))[1:].mean()
        total, weights = total + weight * (1 - dice + entropy), weights + weight
    return total / weights


class Variant(NamedTuple):
    """One change.

    Attributes:
        options: Options of the training.
        loss: Takes the place of the loss of all levels.
        smoothing: Share of label smoothing.
        steps: Factor of the number of steps.
    """

    options: Mapping[str, Any] = MappingProxyType({})
    loss: Callable[..., Tensor] = deep_supervision_loss
    smoothing: float = 0.0
    steps: float = 1.0


VARIANTS = {
    "plan": Variant(),
    "averaged coarse targets": Variant(loss=averaged),
    "no deep supervision": Variant(loss=full_resolution_only),
    "label smoothing 0.05": Variant(smoothing=0.05),
    "label smoothing 0.1": Variant(smoothing=0.1),
    "augmentation none": Variant({"augmentation": "none"}),
    "augmentation light": Variant({"augmentation": "light"}),
    "augmentation strong": Variant({"augmentation": "strong"}),
    "mirror all axes": Variant(),
    "mirror no axis": Variant({"augmentation_options": {"mirror": False}}),
    "foreground 0": Variant({"foreground_share": 0.0}),
    "foreground 1/2": Variant({"foreground_share": 0.5}),
    "foreground 2/3": Variant({"foreground_share": 0.67}),
    "foreground 1": Variant({"foreground_share": 1.0}),
    "weights of the last step": Variant({"ema": 0.0}),
    "weights averaged over a tenth": Variant({"ema": 0.1}),
    "weights averaged over a third": Variant({"ema": 0.33}),
    "rate 0.0025": Variant({"learning_rate": 0.0025}),
    "rate 0.01": Variant({"learning_rate": 0.01}),
    "weight decay 0.1": Variant({"weight_decay": 0.1}),
    "Dice and focal": Variant({"loss": "dice_focal"}),
    "4 times the steps": Variant(steps=4),
    "4 times the steps, strong": Variant({"augmentation": "strong"}, steps=4),
    "4 times the steps, weight decay 0.1": Variant({"weight_decay": 0.1}, steps=4),
    "4 times the steps, label smoothing 0.1": Variant(smoothing=0.1, steps=4),
}


def main() -> None:
    """Train everything that is asked for, print a row for each as JSON, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, action="append", required=True)
    parser.add_argument("--version", type=int, action="append", required=True, help="of the plan, for each work folder")
    parser.add_argument("--steps", type=int, action="append", required=True, help="for each work folder")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no training after these")
    options = parser.parse_args()
    versions = map(version_of, options.work, options.version)
    datasets = list(zip(options.work, versions, options.steps, strict=True))
    jobs = [(variant, seed, *dataset) for seed, variant, dataset in product(options.seeds, options.variants, datasets)]
    until = time.time() + options.seconds
    rows: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, context, torch.set_num_threads, (1,)) as pool:
        run = partial(train, device=options.device, until=until)
        for done in as_completed([pool.submit(run, *job) for job in jobs]):
            row = done.result()
            if row is not None:
                rows.append(row)
                print(json.dumps(row), flush=True)
    compare(rows)


def version_of(work: Path, version: int) -> Configuration:
    """A version of the plan's default configuration, counted from the plan."""
    return list(reductions(read_training_set(work, FOLD, None).configuration))[version].configuration


def train(
    variant: str, seed: int, work: Path, configuration: Configuration, steps: int, *, device: str, until: float
) -> dict[str, Any] | None:
    """Train one network, and score it on the held-out cases; None where there is no time left."""
    if time.time() > until:
        return None
    change = VARIANTS[variant]
    config = {"work": work, "fold": FOLD, "device": device, "seed": seed, **change.options}
    setup = Setup.of(TrainConfig.model_validate(config), Group(), resolve_device(device))
    if change.smoothing:
        setup = replace(setup, loss=Smoothed(share=change.smoothing))
    setup = setup.following(setup.data.name, configuration)
    if variant == "mirror all axes":
        mirror = setup.augmentation.mirror.model_copy(update={"axes": tuple(range(configuration.spatial_dims))})
        setup = replace(setup, augmentation=setup.augmentation.model_copy(update={"mirror": mirror}))
    steps = round(steps * change.steps)
    one, before = setup.learner(setup.network(), "muon"), time.monotonic()
    with mock.patch.object(learner, "deep_supervision_loss", change.loss):
        with closing(setup.loader(configuration.batch_size).batches()) as batches:
            losses = [one.step(next(batches), n / steps, setup.augmentation)[0] for n in range(steps)]
        loss = float(torch.stack(losses[-steps // 20 :]).mean())
    seconds, held_out = time.monotonic() - before, setup.held_out()
    found = zip(*(held_out.count(one.network, case) for case in setup.data.validation), strict=True)
    dice = [mean_dice([[overlap] for overlap in each])[0] for each in found]
    return {
        "data": work.name,
        "variant": variant,
        "seed": seed,
        "dice": round(fmean(value for value in dice if value is not None), 5),
        "each": [None if value is None else round(value, 5) for value in dice],
        "loss": round(loss, 4),
        "steps": steps,
        "seconds": round(seconds, 1),
    }


def compare(rows: Sequence[dict[str, Any]]) -> None:
    """Print the mean Dice of `plan` for each dataset, and the mean difference of each variant over its seeds."""
    of = {(row["data"], row["variant"], row["seed"]): row["dice"] for row in rows}
    for data in dict.fromkeys(row["data"] for row in rows):
        for variant in VARIANTS:
            pairs = [
                (dice, of[data, "plan", seed])
                for (d, v, seed), dice in of.items()
                if (d, v) == (data, variant) and (data, "plan", seed) in of
            ]
            if pairs:
                gain = fmean(dice - plan for dice, plan in pairs)
                print(f"{data:12} {variant:40} {fmean(dice for dice, _ in pairs):.4f} {gain:+.4f} ({len(pairs)})")


if __name__ == "__main__":
    main()
