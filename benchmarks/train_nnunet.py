"""nnU-Net's side of `train.py`; run by it, with the Python of an environment that has nnunetv2 2.8.1.

    python train_nnunet.py cpu 3d_fullres steps 8        # seconds of each of so many training steps, as JSON
    python train_nnunet.py cuda 3d_fullres minutes 25    # train fold 0 for so long

Reads ``nnUNet_raw``, ``nnUNet_preprocessed`` and ``nnUNet_results`` from the environment, as nnU-Net does.
"""

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

EPOCH = 20  # steps: a shortened epoch, so that the learning rate follows the time closely
DATASET = "Dataset901_bench"


class TimedPolynomial:
    """nnU-Net's learning rate, over the time there is instead of over epochs."""

    def __init__(self, optimizer, initial_lr: float, started: float, seconds: float) -> None:
        self.optimizer, self.initial_lr, self.started, self.seconds = optimizer, initial_lr, started, seconds

    def step(self, _epoch: int | None = None) -> None:
        left = max(0.0, 1 - (time.monotonic() - self.started) / self.seconds)
        for group in self.optimizer.param_groups:
            group["lr"] = self.initial_lr * left**0.9


def trainer_of_fold_0(device: str, configuration: str):
    """nnU-Net's own trainer, with short epochs."""
    import torch
    from nnunetv2.paths import nnUNet_preprocessed
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = Path(nnUNet_preprocessed) / DATASET
    plans = json.loads((folder / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    declared = json.loads((folder / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, configuration, 0, declared, device=torch.device(device))
    trainer.num_iterations_per_epoch = EPOCH
    trainer.num_val_iterations_per_epoch = 1
    trainer.initialize()
    return trainer


def steps(device: str, configuration: str, count: int) -> None:
    """Print the seconds of each step, loading and augmentation included."""
    trainer = trainer_of_fold_0(device, configuration)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    seconds = []
    for _ in range(count):
        before = time.perf_counter()
        trainer.train_step(next(trainer.dataloader_train))
        seconds.append(time.perf_counter() - before)
    print(json.dumps(seconds), flush=True)
    leave()


def minutes(device: str, configuration: str, limit: float, started: float) -> None:
    """Train until the time is over, start-up included, and save the last weights."""
    import torch

    trainer = trainer_of_fold_0(device, configuration)
    seconds = limit * 60
    trainer.lr_scheduler = TimedPolynomial(trainer.optimizer, trainer.initial_lr, started, seconds)
    trainer.on_train_start()
    taken = 0
    while time.monotonic() - started < seconds:
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        outputs = []
        while len(outputs) < EPOCH and time.monotonic() - started < seconds:
            outputs.append(trainer.train_step(next(trainer.dataloader_train)))
        taken += len(outputs)
        trainer.on_train_epoch_end(outputs)
        with torch.no_grad():
            trainer.on_validation_epoch_start()
            trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val))])
        trainer.on_epoch_end()
    trainer.on_train_end()
    print(json.dumps({"steps": taken, "seconds": time.monotonic() - started}), flush=True)
    leave()


def leave() -> None:
    """End at once, and the worker processes too: they would be waited for, or hold on to our output."""
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(0)


if __name__ == "__main__":
    start = time.monotonic()
    device, configuration, what, amount = sys.argv[1:]
    if what == "steps":
        steps(device, configuration, int(amount))
    else:
        minutes(device, configuration, float(amount), start)
