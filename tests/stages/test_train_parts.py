"""Training with parts that a person names: loss, optimiser, schedule, augmentation and network, through the command."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from unetpipe.bundle.verify import verify_bundle
from unetpipe.cli import app
from unetpipe.training.batches.loader import Batch
from unetpipe.training.checkpoint import CHECKPOINT
from unetpipe.training.optimization.learner import Learner

SHORT = ["--device", "cpu", "--precision", "fp32", "--iterations", "2", "--tracking", "none"]
PARTS = {
    "loss": {"_target_": "monai.losses.HausdorffDTLoss", "alpha": 1.5},
    "optimizer": {"_target_": "torch.optim.AdamW", "betas": [0.8, 0.99]},
    "schedule": {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 500},
    "network": {"_target_": "monai.networks.nets.AttentionUnet", "channels": [4, 8], "strides": [2]},
}
STEPS = [
    {"_target_": "monai.transforms.RandBiasFieldd", "prob": 0.5},
    {"_target_": "monai.transforms.RandFlipd", "prob": 0.5, "spatial_axis": 0},
]


def command(work: Path, *options: str, epochs: int = 1) -> Any:
    return CliRunner().invoke(app, ["train", str(work), *SHORT, "--epochs", str(epochs), *options])


def refusal(work: Path, *options: str) -> str:
    """The one line that a command ends with."""
    result = command(work, *options)
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    assert not (work / "runs").exists()
    return " ".join(result.output.split())


def test_named_parts_train_and_are_kept_in_the_runs_config(work: Path) -> None:
    """Typed on the command line or written into a file, definitions are plain JSON in `config.yaml`, and one config."""
    typed = [word for name, part in PARTS.items() for word in (f"--{name}", json.dumps(part))]
    typed += [word for step in STEPS for word in ("--augmentation-steps", json.dumps(step))]
    typed += ["--augmentation-options", "rotation.probability=0.5", "--augmentation-options", "blur=off"]
    first = command(work, *typed, "--learning-rate", "0.003", "--weight-decay", "0", "--ema", "0.1")
    assert first.exit_code == 0, first.output
    run = work / "runs" / "default" / "fold_0"
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert {name: kept[name] for name in PARTS} == PARTS
    assert kept["augmentation_steps"] == STEPS
    assert kept["augmentation_options"] == {"rotation": {"probability": 0.5}, "blur": False}
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["learning_rate"] == pytest.approx(0.0003)

    written = work.parent / "same.yaml"
    written.write_text(yaml.safe_dump(kept))
    again = CliRunner().invoke(app, ["train", str(work), "--config", str(written)])
    assert again.exit_code == 0, again.output
    assert "is finished" in again.output
    changed = command(work, *typed[2:], "--learning-rate", "0.003", "--weight-decay", "0", "--ema", "0.1")
    assert changed.exit_code == 1
    assert "--loss was {'_target_': 'monai.losses.HausdorffDTLoss', 'alpha': 1.5}, is dice_ce" in " ".join(
        changed.output.split()
    )


def test_only_inference_needs_a_bundle(work: Path) -> None:
    """Inference names the network, and neither loss nor optimiser nor augmentation; `info` shows bundle and folder."""
    typed = [word for name, part in PARTS.items() for word in (f"--{name}", json.dumps(part))]
    assert command(work, *typed, "--augmentation-steps", json.dumps(STEPS[0])).exit_code == 0
    bundle = work / "runs" / "default" / "fold_0"
    text = (bundle / "configs" / "inference.json").read_text()
    assert "AttentionUnet" in text
    assert not any(word in text for word in ("HausdorffDTLoss", "AdamW", "StepLR", "RandBiasField"))
    for path in (work, bundle):
        shown = CliRunner().invoke(app, ["info", str(path), "--json"])
        assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["network"] == "AttentionUnet"


EXTENSION = """
import torch
from monai.transforms import MapTransform, Randomizable
from unetpipe import register


@register("network", "test_lab_net")
class Net(torch.nn.Sequential):
    def __init__(self, in_channels, out_channels, width=4):
        super().__init__(
            torch.nn.Conv3d(in_channels, width, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(width, out_channels, 1)
        )


@register("loss", "test_lab_loss")
def squares(power=2.0):
    return lambda logits, target: (logits.softmax(1) - target).abs().pow(power).mean()


@register("optimizer", "test_lab_sgd")
class Signs(torch.optim.SGD):
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad.sign_()
        super().step()


@register("schedule", "test_lab_line")
def line():
    return lambda progress: 1 - progress


@register("augmentation", "test_lab_shift")
class Shift(MapTransform, Randomizable):
    def __call__(self, data):
        return {**data, "image": data["image"] + self.R.normal()}
"""


def test_parts_of_an_extension_train(work: Path, tmp_path: Path) -> None:
    """Own network, loss, optimiser, schedule and augmentation, by their words; the bundle holds TorchScript."""
    file = tmp_path / "lab.py"
    file.write_text(EXTENSION)
    words = {"network": "test_lab_net", "optimizer": "test_lab_sgd", "schedule": "test_lab_line"}
    typed = [word for name, named in words.items() for word in (f"--{name}", named)]
    typed += ["--loss", "{_target_: test_lab_loss, power: 1.5}", "--augmentation-steps", "test_lab_shift"]
    trained = command(work, "--extension", str(file), *typed, "--network-options", "width=6")
    assert trained.exit_code == 0, trained.output
    bundle = work / "runs" / "default" / "fold_0"
    assert (bundle / "models" / "model.ts").is_file()
    assert all(check.passed for check in verify_bundle(bundle))
    assert str(tmp_path) not in (bundle / "config.yaml").read_text()
    shown = CliRunner().invoke(app, ["info", str(bundle), "--json"])
    assert json.loads(shown.output)["network"] == "test_lab_net"


DROPOUT = ["--network", "{_target_: AttentionUnet, channels: [4, 8], strides: [2], dropout: 0.5}"]
WITH_STEPS = [word for step in STEPS for word in ("--augmentation-steps", json.dumps(step))]


@pytest.mark.parametrize("typed", [[*WITH_STEPS, "--optimizer", json.dumps(PARTS["optimizer"])], DROPOUT])
def test_a_run_with_parts_that_draw_resumes_exactly(
    work: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str]
) -> None:
    """Stopped in the middle of its second epoch, it ends with the losses and the weights of an undisturbed run."""
    assert command(work, *typed, "--run-name", "whole", epochs=2).exit_code == 0
    step, waiting = Learner.step, {3}

    def stopping(self: Learner, batch: Batch, *args: Any) -> Any:
        if batch.number in waiting:
            waiting.remove(batch.number)
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, *args)

    monkeypatch.setattr(Learner, "step", stopping)
    assert command(work, *typed, "--run-name", "cut", epochs=2).exit_code == 130
    assert command(work, *typed, "--run-name", "cut", epochs=2).exit_code == 0
    whole, cut = (work / "runs" / name / "fold_0" for name in ("whole", "cut"))
    assert _losses(cut) == _losses(whole)
    weights = [torch.load(run / "models" / "model.pt", weights_only=True) for run in (whole, cut)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def _losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_of_an_older_version_goes_on(work: Path) -> None:
    """Options that its checkpoint does not know of count as their defaults, lists and mappings as well as numbers."""
    assert command(work).exit_code == 0
    path = work / "runs" / "default" / "fold_0" / CHECKPOINT
    state = torch.load(path, weights_only=True)
    for name in ("augmentation_steps", "augmentation_options", "optimizer", "clip", "foreground_share"):
        del state["options"][name]
    torch.save(state, path)
    again = command(work)
    assert again.exit_code == 0, again.output
    assert "is finished" in again.output
    changed = command(work, "--augmentation-steps", "{_target_: monai.transforms.RandFlipd}")
    assert "--augmentation-steps was [], is [{'_target_'" in " ".join(changed.output.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss", "dice"], "there is no loss 'dice': expected one of dice_ce, dice_focal, "),
        (["--loss", "{_target_: monai.losses.DiceLoss, reduction: none}"], "should give one number"),
        (["--loss", "{_target_: dice_focal, gamma: two}"], "loss dice_focal"),
        (["--loss", "{_target_: os.system}"], "there is no loss 'os.system'"),
        (["--loss", "{_target_: ["], "is not YAML"),
        (["--optimizer", "adam"], "there is no optimizer 'adam': expected one of adamw, muon, sgd"),
        (["--optimizer", "{_target_: torch.optim.LBFGS}"], "LBFGS cannot take a step"),
        (["--learning-rate", "0"], "greater than 0"),
        (["--schedule", "{_target_: torch.optim.lr_scheduler.ReduceLROnPlateau}"], "cannot be stepped through a run"),
        (["--clip", "-1"], "greater than or equal to 0"),
        (["--foreground-share", "1.5"], "less than or equal to 1"),
        (["--augmentation-options", "rotate.probability=0.3"], "there is no transform 'rotate', only rotation"),
        (["--augmentation-options", "rotation.probability=3"], "rotation.probability: Input should be less than"),
        (["--augmentation-steps", "{_target_: monai.transforms.RandFlip}"], "take its dictionary form"),
        (["--network", "{_target_: monai.networks.nets.UNet, depth: 3}"], "UNet cannot be built"),
        (["--network", "dynune"], "there is none, expected one of auto, dynunet, resenc"),
        (["--class-weights", "dark=2", "--loss", "{_target_: monai.losses.DiceLoss}"], "does not take --class-weights"),
    ],
)
def test_what_cannot_train_is_refused_before_any_work(work: Path, options: list[str], message: str) -> None:
    """In one line, and no run folder is made."""
    assert message in refusal(work, *options)
