"""Training beside nnU-Net: time of a step, and Dice after a given time.

    python benchmarks/train.py steps --nnunet NNUNET_VENV/bin --data DATA/Task04_Hippocampus --out /tmp/bench
    python benchmarks/train.py dice --minutes 25 --nnunet NNUNET_VENV/bin --data ... --out /tmp/bench
    python benchmarks/train.py dice --minutes 15 --networks plan unet --data DATA/lidc_nodules/cases.csv ...

`--data` is any dataset with one PNG or NIfTI file for each image. `--nnunet` is the folder with the executables of an
environment that has nnunetv2 2.8.1. Both sides preprocess the same cases, train on the same split (fold 0) on one
device, one after the other, and predict the held-out scans without mirroring; `unetpipe evaluate` scores both. `steps`
measures the plan's network, sampling and augmentation included, in the precision that each side chooses, on a CPU ours
in float32 and half as wide too, on a GPU with and without `torch.compile`; "of peak" is the share of the rate at which
the device multiplies large bfloat16 matrices. Give it the machine alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import read_folds
from unetpipe.dataset.manifest import Case, read_manifest
from unetpipe.imaging.files import read_volume, write_labels
from unetpipe.networks.build import build_network
from unetpipe.networks.device import resolve_device
from unetpipe.networks.summary import summarize_network
from unetpipe.training.distributed.group import Group
from unetpipe.training.optimization.learner import Learner
from unetpipe.training.setup import Setup

STEPS = {"cpu": (2, 8), "cuda": (20, 60)}  # that warm up, and that are timed
UNETPIPE = (sys.executable, "-m", "unetpipe")


def main() -> None:
    """Prepare the data where they are missing, run both sides, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["steps", "dice"])
    parser.add_argument("--nnunet", type=Path, help="folder with its executables; without it only ours runs")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--modality", nargs="*", default=[], help="as for unetpipe preprocess")
    parser.add_argument("--networks", nargs="+", default=["plan"], help="ours, for dice: one training each")
    parser.add_argument("--out", type=Path, required=True, help="scratch folder; what is prepared in it is kept")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--side", choices=["ours", "nnunet"], help="only this one")
    options = parser.parse_args()
    work = options.out / "work"
    if not (work / "plan.yaml").exists():
        modality = [word for one in options.modality for word in ("--modality", one)]
        run(*UNETPIPE, "preprocess", options.data, "--out", work, "--no-preview", *modality)
    peer = NnUNet(options) if options.nnunet and options.side != "ours" else None
    if peer is not None:
        peer.prepare()
    if options.what == "steps":
        if options.side != "nnunet":
            our_steps(work, options.device)
        if peer is not None:
            warm_up, steps = STEPS[options.device]
            seconds = json.loads(peer.run("steps", str(warm_up + steps)))[warm_up:]
            print(f"nnU-Net, the plan's network: {statistics.mean(seconds):.4f} s", flush=True)
        return
    if options.side != "nnunet":
        for network in options.networks:
            our_dice(network, work, options)
    if peer is not None:
        print("nnU-Net:", peer.run("minutes", str(options.minutes)), flush=True)
        score("nnU-Net", peer.predict(), work, options)


def our_dice(network: str, work: Path, options: argparse.Namespace) -> None:
    """Train one of our networks on fold 0, and score it."""
    device = ("--device", options.device)
    words = [] if network == "plan" else ["--network", network]
    told = ("--fold", "0", *device, "--max-minutes", str(options.minutes), "--run-name", network, *words)
    print(network, json.dumps(json.loads(run(*UNETPIPE, "train", work, *told, "--json", whole=True))), flush=True)
    labels = options.out / f"labels_{network}"
    images = [case.images[0] for case in held_out_cases(work)]
    run(*UNETPIPE, "infer", work / "runs" / network / "fold_0", *images, "--out", labels, *device)
    score(network, labels, work, options)


def held_out_cases(work: Path) -> list[Case]:
    """Cases that fold 0 holds out."""
    held_out = read_folds(work).folds[0].validation
    return [case for case in read_manifest(work).cases if case.id in held_out]


def run(*command: object, environment: dict[str, str] | None = None, whole: bool = False) -> str:
    """Run a command, and return its last line on stdout, or all of it."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed\n{done.stdout[-2000:]}")
    return done.stdout if whole else (done.stdout.strip().splitlines() or [""])[-1]


def score(name: str, labels: Path, work: Path, options: argparse.Namespace) -> None:
    """Mean Dice per class over the held-out cases, on their own grids."""
    out = options.out / f"report_{labels.name}"
    reference = held_out_cases(work)[0].label.parent
    run(*UNETPIPE, "evaluate", labels, reference, "--work", work, "--fold", "0", "--out", out, "--tracking", "none")
    print(name, json.dumps(json.loads((out / "summary.json").read_text())), flush=True)


def our_steps(work: Path, device: str) -> None:
    """Seconds per step of the plan's network and, on a CPU, of one half as wide."""
    setup = Setup.of(TrainConfig(work=work, fold=0, device=device), Group(), resolve_device(device))
    plan, channels = setup.data.configuration, len(setup.data.manifest.channels)
    peak, on_gpu = matrix_rate(setup.device), setup.device.type == "cuda"
    widths = [plan.features] if on_gpu else [plan.features, tuple(n // 2 for n in plan.features)]
    ways = [(setup.dtype, False), (setup.dtype, True) if on_gpu else (torch.float32, False)]
    for features, (dtype, compiled) in product(widths, ways):
        narrowed = setup.following(setup.data.name, plan.model_copy(update={"features": features}))
        definition = narrowed.network()
        stages = summarize_network(build_network(definition), channels, plan.patch_size)
        flops = 3 * plan.batch_size * sum(stage.flops for stage in stages)  # forward, and back to inputs and weights
        learner = replace(narrowed, dtype=dtype).learner(definition, "muon")
        learner.compile(compiled)
        seconds = seconds_per_step(setup, learner)
        name = f"unetpipe, features {features}, {dtype}{', compiled' if compiled else ''}"
        print(f"{name}: {seconds:.4f} s, {flops / seconds / peak:.3f} of peak", flush=True)


def seconds_per_step(setup: Setup, learner: Learner) -> float:
    """Mean time of consecutive steps, sampling and augmentation included; a GPU is waited for at their end only."""
    warm_up, steps = STEPS[setup.device.type]
    with closing(setup.loader(setup.data.configuration.batch_size).batches()) as batches:
        for step in range(warm_up + steps):
            loss, _ = learner.step(next(batches), 0.5, setup.augmentation)
            if step == warm_up - 1:
                loss.item()
                before = time.perf_counter()
        loss.item()
    return (time.perf_counter() - before) / steps


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations per second in products of large bfloat16 matrices."""
    size = 8192 if device.type == "cuda" else 2048
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(9):
        before = time.perf_counter()
        (one @ one)[0, 0].item()
        best = min(best, time.perf_counter() - before)
    return 2 * size**3 / best


class NnUNet:
    """nnU-Net 2.8.1 on the same cases and split."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.programs, self.root, self.work = options.nnunet, (options.out / "nnunet").resolve(), options.out / "work"
        self.manifest, self.device = read_manifest(self.work), options.device
        self.configuration = "2d" if self.manifest.spatial_dims == 2 else "3d_fullres"
        self.suffix = "".join(self.manifest.cases[0].images[0].suffixes)
        folders = {f"nnUNet_{part}": str(self.root / part) for part in ("raw", "preprocessed", "results")}
        self.environment = {**folders, "nnUNet_compile": "f", "nnUNet_n_proc_DA": "1"}
        if self.device != "cpu":  # its own choices there
            self.environment = folders

    def prepare(self) -> None:
        """Its raw folder, by links, with labels as class indices; its plan and preprocessed cases; our folds."""
        prepared = self.root / "preprocessed" / "Dataset901_bench"
        if (prepared / "splits_final.json").exists():
            return
        raw = self.root / "raw" / "Dataset901_bench"
        for part in ("imagesTr", "labelsTr"):
            (raw / part).mkdir(parents=True)
        values = [label.value for label in self.manifest.labels]
        for case in self.manifest.cases:
            (raw / "imagesTr" / f"{case.id}_0000{self.suffix}").symlink_to(case.images[0])
            self.renumber(case.label, raw / "labelsTr" / f"{case.id}{self.suffix}", values, range(len(values)))
        modalities = self.manifest.modalities or [None] * len(self.manifest.channels)
        channels = [
            "CT" if modality == "CT" else name
            for name, modality in zip(self.manifest.channels, modalities, strict=True)
        ]
        content = {
            "channel_names": {str(number): name for number, name in enumerate(channels)},
            "labels": {label.name: index for index, label in enumerate(self.manifest.labels)},
            "numTraining": len(self.manifest.cases),
            "file_ending": self.suffix,
        }
        (raw / "dataset.json").write_text(json.dumps(content))
        plan = (self.programs / "nnUNetv2_plan_and_preprocess", "-d", "901", "-c", self.configuration, "-np", "2")
        run(*plan, environment=self.environment)
        folds = [{"train": list(fold.train), "val": list(fold.validation)} for fold in read_folds(self.work).folds]
        (prepared / "splits_final.json").write_text(json.dumps(folds))

    def renumber(self, source: Path, target: Path, old: Sequence[int], new: Sequence[int]) -> None:
        """Write a label file with other values."""
        label = read_volume(source, as_label=True)
        table = np.zeros(256, np.uint8)
        table[list(old)] = new
        names = {value: one.name for value, one in zip(new, self.manifest.labels, strict=True)}
        write_labels(target, table[label.array[0]], label.grid, names)

    def run(self, *words: str) -> str:
        """One of the commands of train_nnunet.py."""
        script = Path(__file__).with_name("train_nnunet.py")
        command = (self.programs / "python", script, self.device, self.configuration, *words)
        return run(*command, environment=self.environment)

    def predict(self) -> Path:
        """Labels of the held-out scans, by the last weights, without mirroring."""
        images, found, labels = (self.root.parent / name for name in ("held_out", "found_nnunet", "labels_nnunet"))
        for folder in (images, labels):
            folder.mkdir(exist_ok=True)
        for case in held_out_cases(self.work):
            link = images / f"{case.id}_0000{self.suffix}"
            if not link.exists():
                link.symlink_to(case.images[0])
        words = ["-i", images, "-o", found, "-d", "901", "-c", self.configuration, "-f", "0", "--disable_tta"]
        run(self.programs / "nnUNetv2_predict", *words, "-device", self.device, environment=self.environment)
        values = [label.value for label in self.manifest.labels]
        for file in found.glob(f"*{self.suffix}"):
            self.renumber(file, labels / file.name, range(len(values)), values)
        return labels


if __name__ == "__main__":
    main()
