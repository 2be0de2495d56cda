"""Training beside nnU-Net: time of a step, and Dice after a given time.

    python benchmarks/train.py steps --nnunet NNUNET_VENV/bin --data DATA/Task04_Hippocampus --out /tmp/bench
    python benchmarks/train.py dice --minutes 25 --nnunet NNUNET_VENV/bin --data ... --out /tmp/bench

`--nnunet` is the folder with the executables of an environment that has nnunetv2 2.8.1. Both sides preprocess the same
cases, train on the same split (fold 0) on one device, one after the other, and predict the held-out scans without
mirroring; `unetpipe evaluate` scores both. `steps` measures the plan's network, sampling and augmentation included, in
the precision that each side chooses, on a CPU ours in float32 and half as wide too, on a GPU with and without
`torch.compile`; "of peak" is the share of the rate at which the device multiplies large bfloat16 matrices. Give it the
machine alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import read_folds
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
    parser.add_argument("--data", type=Path, required=True, help="an MSD folder")
    parser.add_argument("--out", type=Path, required=True, help="scratch folder; what is prepared in it is kept")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--side", choices=["ours", "nnunet"], help="only this one")
    options = parser.parse_args()
    work = options.out / "work"
    if not (work / "plan.yaml").exists():
        run(*UNETPIPE, "preprocess", options.data, "--out", work)
    peer = NnUNet(options) if options.nnunet and options.side != "ours" else None
    if peer is not None:
        peer.prepare(work)
    if options.what == "steps":
        if options.side != "nnunet":
            our_steps(work, options.device)
        if peer is not None:
            warm_up, steps = STEPS[options.device]
            seconds = json.loads(peer.run("steps", str(warm_up + steps)))[warm_up:]
            print(f"nnU-Net, the plan's network: {statistics.mean(seconds):.4f} s", flush=True)
        return
    held_out = read_folds(work).folds[0].validation
    images = options.out / "held_out"
    images.mkdir(exist_ok=True)
    for case in held_out:
        link = images / f"{case}_0000.nii.gz"
        if not link.exists():
            link.symlink_to((options.data / "imagesTr" / f"{case}.nii.gz").resolve())
    if options.side != "nnunet":
        run(*UNETPIPE, "train", work, "--fold", "0", "--device", options.device, "--max-minutes", str(options.minutes))
        labels = options.out / "labels_ours"
        run(*UNETPIPE, "infer", work / "runs/default/fold_0", images, "--out", labels, "--device", options.device)
        score("unetpipe", labels, work, options)
    if peer is not None:
        print("nnU-Net:", peer.run("minutes", str(options.minutes)), flush=True)
        score("nnU-Net", peer.predict(images), work, options)


def run(*command: object, environment: dict[str, str] | None = None) -> str:
    """Run a command and return its last line on stdout."""
    words = [str(word) for word in command]
    done = subprocess.run(words, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed\n{done.stdout[-2000:]}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def score(name: str, labels: Path, work: Path, options: argparse.Namespace) -> None:
    """Mean Dice per class over the held-out cases, on their own grids."""
    out = options.out / f"report_{labels.name}"
    reference = options.data / "labelsTr"
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
        self.programs, self.data, self.root = options.nnunet, options.data, (options.out / "nnunet").resolve()
        self.device: str = options.device
        folders = {f"nnUNet_{part}": str(self.root / part) for part in ("raw", "preprocessed", "results")}
        self.environment = {**folders, "nnUNet_compile": "f", "nnUNet_n_proc_DA": "1"}
        if self.device != "cpu":  # its own choices there
            self.environment = folders

    def prepare(self, work: Path) -> None:
        """Its raw folder, by links; its plan and preprocessed cases; our folds."""
        prepared = self.root / "preprocessed" / "Dataset901_bench"
        if (prepared / "splits_final.json").exists():
            return
        raw = self.root / "raw" / "Dataset901_bench"
        for part in ("imagesTr", "labelsTr"):
            (raw / part).mkdir(parents=True)
        cases = sorted(path.name.removesuffix(".nii.gz") for path in self.data.glob("imagesTr/*.nii.gz"))
        for case in cases:
            image, label = (self.data.resolve() / part / f"{case}.nii.gz" for part in ("imagesTr", "labelsTr"))
            (raw / "imagesTr" / f"{case}_0000.nii.gz").symlink_to(image)
            (raw / "labelsTr" / f"{case}.nii.gz").symlink_to(label)
        declared = json.loads((self.data / "dataset.json").read_text())
        labels = {name: int(value) for value, name in declared["labels"].items()}
        content = {
            "channel_names": declared["modality"],
            "labels": labels,
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
        }
        (raw / "dataset.json").write_text(json.dumps(content))
        plan = (self.programs / "nnUNetv2_plan_and_preprocess", "-d", "901", "-c", "3d_fullres", "-np", "2")
        run(*plan, environment=self.environment)
        folds = [{"train": list(fold.train), "val": list(fold.validation)} for fold in read_folds(work).folds]
        (prepared / "splits_final.json").write_text(json.dumps(folds))

    def run(self, *words: str) -> str:
        """One of the commands of train_nnunet.py."""
        script = Path(__file__).with_name("train_nnunet.py")
        return run(self.programs / "python", script, self.device, *words, environment=self.environment)

    def predict(self, images: Path) -> Path:
        """Labels of a folder of scans, by the last weights, without mirroring."""
        labels = self.root.parent / "labels_nnunet"
        words = ["-i", images, "-o", labels, "-d", "901", "-c", "3d_fullres", "-f", "0", "--disable_tta"]
        run(self.programs / "nnUNetv2_predict", *words, "-device", self.device, environment=self.environment)
        return labels


if __name__ == "__main__":
    main()
