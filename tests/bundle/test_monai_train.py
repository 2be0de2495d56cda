"""`train.json` trains and `evaluate.json` evaluates with MONAI alone."""

import csv
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import monai.transforms
import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events

from unetpipe.bundle.recipe import TrainingRecipe
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.write import write_bundle
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.infer import InferConfig
from unetpipe.config.package import PackageConfig
from unetpipe.dataset.label_scheme import LabelClass, Region
from unetpipe.dataset.merging import MergedValues
from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing
from unetpipe.networks.build import build_network
from unetpipe.networks.unets import sequential
from unetpipe.stages.evaluate import evaluate
from unetpipe.stages.infer import infer
from unetpipe.stages.package import package

RunMonai = Callable[..., str]


def _unet(outputs: int, *, dims: int = 3, channels: int = 1) -> dict[str, Any]:
    return {
        "_target_": "monai.networks.nets.UNet",
        "spatial_dims": dims,
        "in_channels": channels,
        "out_channels": outputs,
        "channels": [8, 16],
        "strides": [2],
        "norm": "instance",
    }


def _bundle(folder: Path, definition: dict[str, Any], *, dims: int = 3, channels: int = 1, **spec: Any) -> Path:
    spec.setdefault("patch_size", (16,) * dims)
    spec.setdefault("labels", [LabelClass(name=name, value=value) for value, name in enumerate(("none", "up", "down"))])
    model = ModelSpec(
        spatial_dims=3 if dims == 3 else 2,
        channels=tuple(f"channel {n}" for n in range(channels)),
        preprocessing=Preprocessing(
            spacing_mm=(1.1,) * dims,
            interpolation=("cubic",) * dims,
            normalization=(ChannelNormalization(scheme="zscore"),) * channels,
        ),
        **{"mirror_axes": tuple(range(dims)), **spec},
    )
    torch.manual_seed(0)
    write_bundle(folder, model, definition, build_network(definition).state_dict())
    return folder


def _bright_and_dark(folder: Path, **spec: Any) -> Path:
    """A bundle whose network needs no training: a linear layer finds what is much brighter or darker than the mean."""
    labels = tuple(LabelClass(name=name, value=value) for name, value in (("none", 0), ("up/bright", 1), ("down", 4)))
    layer = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
    _bundle(folder, sequential(layer), labels=labels, **spec)
    weights = {"0.weight": torch.tensor([0.0, 1.0, -1.0]).view(3, 1, 1, 1, 1), "0.bias": torch.tensor([1.5, 0.0, 0.0])}
    torch.save(weights, folder / "models" / "model.pt")
    return folder


def _dataset(folder: Path, cases: int = 10, size: tuple[int, ...] = (20, 22, 18)) -> Path:
    """Images with a bright and a dark box; case 1 has a bright one only, and case 2 a dark one that has no label."""
    rng = np.random.default_rng(0)
    affine = np.diag([-1.0, 1.2, 1.1, 1.0])
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in range(cases):
        image, label = rng.normal(100, 4, size), np.zeros(size, np.uint8)
        for value, sign in ((1, 1), (4, -1)):
            start = rng.integers(1, 9, len(size)) + (2 if sign > 0 else 0)
            box = tuple(slice(int(a), int(a) + 6) for a in start)
            if (case, sign) != (1, -1):
                image[box] = 100 + sign * 60
            if case not in (1, 2) or sign > 0:
                label[box] = value
        name = f"case_{case}.nii.gz"
        nib.save(nib.Nifti1Image(image.astype(np.float32), affine), folder / "imagesTr" / name)  # type: ignore[attr-defined]
        nib.save(nib.Nifti1Image(label, affine), folder / "labelsTr" / name)  # type: ignore[attr-defined]
    return folder


def _metrics(folder: Path) -> dict[str, float]:
    with (folder / "metrics.csv").open() as file:
        return {name: float(value) for name, value in csv.reader(file)}


@pytest.mark.slow
def test_one_epoch_lowers_the_loss_and_mlflow_follows(tmp_path: Path, run_monai: RunMonai) -> None:
    """Ten crops, without unetpipe: the loss falls, the shipped weights stay, `--tracking mlflow` records the run."""
    pytest.importorskip("mlflow")
    labels = tuple(LabelClass(name=name, value=value) for name, value in (("none", 0), ("up", 1), ("down", 4)))
    bundle = _bundle(tmp_path / "bundle", _unet(3), labels=labels)
    shipped = (bundle / "models" / "model.pt").read_bytes()
    data = _dataset(tmp_path / "data")
    output = run_monai(bundle, "train", dataset_dir=data, epochs=1, val_interval=1, tracking="mlflow")
    losses = [float(loss) for loss in re.findall(r"train_loss: ([\d.]+)", output)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert (bundle / "models" / "model.pt").read_bytes() == shipped
    trained = torch.load(bundle / "eval" / "model.pt", weights_only=True)
    assert trained.keys() == torch.load(bundle / "models" / "model.pt", weights_only=True).keys()
    with sqlite3.connect(bundle / "eval" / "mlruns.db") as store:
        recorded = [value for (value,) in store.execute("select value from metrics where key = 'train_loss'")]
    assert recorded


def test_evaluation_reports_the_dice_of_unetpipe(tmp_path: Path, run_monai: RunMonai) -> None:
    """Each structure's Dice is that of `unetpipe evaluate` on the labels of `infer`, with structures missing too."""
    bundle, data = _bright_and_dark(tmp_path / "bundle"), _dataset(tmp_path / "data")
    images = (data / "imagesTr",)
    infer(InferConfig(models=(bundle,), inputs=images, out=tmp_path / "out", device="cpu", precision="fp32"))
    evaluate(
        EvaluateConfig(
            predictions=(tmp_path / "out",), reference=data / "labelsTr", out=tmp_path / "report", report=False
        )
    )
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    expected = {row["value"]: row["figures"]["dice"]["mean"] for row in summary["models"][0]["classes"]}
    run_monai(bundle, "evaluate", dataset_dir=data)
    found = _metrics(bundle / "eval")
    assert 0.5 < found["dice_down"] < found["dice_up_bright"] < 1
    for value, key in ((1, "dice_up_bright"), (4, "dice_down")):
        assert found[key] == pytest.approx(expected[value], abs=1e-3)


def test_merged_and_ignored_values_count_as_for_unetpipe(tmp_path: Path) -> None:
    """Several values of one class, and voxels that take no part, in `evaluate.json`; `train.json` learns from both."""
    merged = (MergedValues(low=6, high=7, value=4),)
    bundle = _bright_and_dark(tmp_path / "bundle", merged=merged, ignore_value=9)
    data = _dataset(tmp_path / "data")
    for path in (data / "labelsTr").iterdir():
        file = nib.load(path)  # type: ignore[attr-defined]
        label = np.asarray(file.dataobj).copy()
        label[::2][label[::2] == 4] = 7
        label[:, :9] = 9
        nib.save(nib.Nifti1Image(label, file.affine), path)  # type: ignore[attr-defined]
    out = tmp_path / "out"
    infer(InferConfig(models=(bundle,), inputs=(data / "imagesTr",), out=out, device="cpu", precision="fp32"))
    labels = {"bright": ((1, 1),), "down": ((4, 4), (6, 7)), "ignore": ((9, 9),)}
    config = {"predictions": (out,), "reference": data / "labelsTr", "out": tmp_path / "report", "report": False}
    rows = evaluate(EvaluateConfig.model_validate(config | {"labels": labels})).classes
    files = {name: str(bundle / "configs" / f"{name}.json") for name in ("train", "evaluate")}
    monai.bundle.run(config_file=files["evaluate"], bundle_root=str(bundle), dataset_dir=str(data))
    found = _metrics(bundle / "eval")
    assert [found["dice_up_bright"], found["dice_down"]] == pytest.approx([row.dice for row in rows], abs=1e-3)
    assert 0.5 < found["dice_down"] < 1
    options = {"bundle_root": str(bundle), "dataset_dir": str(data), "epochs": 1, "val_interval": 1}
    monai.bundle.run(config_file=files["train"], **options)


def test_slices_of_volumes_turn_in_their_planes_only(tmp_path: Path) -> None:
    """Turned out of it, a slice one voxel thick would leave its label behind."""
    bundle = _bundle(tmp_path / "bundle", _unet(3), patch_size=(1, 16, 16), mirror_axes=(1, 2))
    config = json.loads((bundle / "configs" / "train.json").read_text())
    (affine,) = (one for one in config["train"]["random_transforms"] if one["_target_"].endswith("RandAffined"))
    assert affine["rotate_range"][0] > 3
    assert affine["rotate_range"][1:] == [0.0, 0.0]
    assert affine["scale_range"][0] == [0.0, 0.0]
    turn = monai.transforms.RandAffined(**{k: v for k, v in affine.items() if k != "_target_"} | {"prob": 1.0})
    turn.set_random_state(0)
    case = {"image": torch.ones(1, 1, 16, 16), "label": torch.ones(1, 1, 16, 16)}
    for _ in range(5):
        turned = turn(dict(case))
        assert torch.all(turned["label"][0, 0, 6:10, 6:10] == 1)


def test_an_ensemble_is_evaluated_and_the_overlay_on_train_too(tmp_path: Path) -> None:
    """`evaluate.json` runs by itself or after `train.json`, for the members of an ensemble together."""
    run, data = tmp_path / "run", _dataset(tmp_path / "data", cases=3)
    for fold in range(2):
        _bright_and_dark(run / f"fold_{fold}")
    package(PackageConfig(model=run, folds="all", out=tmp_path / "both"))
    figures = []
    for bundle, configs in ((run / "fold_0", ["evaluate"]), (tmp_path / "both", ["train", "evaluate"])):
        files = [str(bundle / "configs" / f"{name}.json") for name in configs]
        monai.bundle.run(config_file=files, bundle_root=str(bundle), dataset_dir=str(data))
        figures.append(_metrics(bundle / "eval"))
    assert figures[0] == pytest.approx(figures[1], abs=1e-6)


@pytest.mark.slow
def test_several_processes_train_and_evaluate(tmp_path: Path, run_monai: RunMonai) -> None:
    """Under torchrun the cases are shared, and the Dice is that of one process."""
    bundle, data = _bright_and_dark(tmp_path / "bundle"), _dataset(tmp_path / "data")
    monai.bundle.run(
        config_file=str(bundle / "configs" / "evaluate.json"), bundle_root=str(bundle), dataset_dir=str(data)
    )
    alone = _metrics(bundle / "eval")
    shared = tmp_path / "shared"
    run_monai(bundle, "evaluate", "multi_gpu_evaluate", processes=2, dataset_dir=data, output_dir=shared)
    assert _metrics(shared) == pytest.approx(alone, abs=1e-6)
    run_monai(bundle, "train", "multi_gpu_train", processes=2, dataset_dir=data, epochs=1, val_interval=1)
    weights = torch.load(bundle / "eval" / "model.pt", weights_only=True)
    assert set(weights) == {"0.weight", "0.bias"}


REGIONS = (Region(name="any", values=(1, 4), written=1), Region(name="dark", values=(4,), written=4))
TASKS: dict[str, tuple[int, dict[str, Any]]] = {
    "dice_ce": (3, {}),
    "weighted": (3, {"recipe": TrainingRecipe(class_weights=(1.0, 2.0, 1.0))}),
    "dice_focal": (3, {"recipe": TrainingRecipe(loss="dice_focal")}),
    "tversky_ce": (3, {"recipe": TrainingRecipe(loss="tversky_ce", augmented=False)}),
    "regions": (2, {"regions": REGIONS, "recipe": TrainingRecipe(class_weights=(1.0, 2.0))}),
    "focal regions": (2, {"regions": REGIONS, "recipe": TrainingRecipe(loss="dice_focal")}),
    "one output": (1, {}),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_loss_and_kind_of_output_trains(tmp_path: Path, task: str) -> None:
    """Classes, regions, and two classes with one output; the loss of each step is finite."""
    outputs, spec = TASKS[task]
    names = (("none", 0), ("up", 1), ("down", 4))[: 2 if task == "one output" else 3]
    labels = tuple(LabelClass(name=name, value=value) for name, value in names)
    bundle = _bundle(tmp_path / "bundle", _unet(outputs), labels=labels, **spec)
    losses = _trained(bundle, _dataset(tmp_path / "data", cases=5))
    assert len(losses) == 2
    assert np.isfinite(losses).all()


def test_pictures_of_several_channels_train(tmp_path: Path) -> None:
    """2-D cases of one file for each channel, CASE_0000 and CASE_0001, with CASE as the label's name."""
    data = _dataset(tmp_path / "data", cases=5, size=(20, 22))
    for path in sorted((data / "imagesTr").iterdir()):
        for channel in range(2):
            (data / "imagesTr" / path.name.replace(".nii", f"_{channel:04d}.nii")).write_bytes(path.read_bytes())
        path.unlink()
    labels = tuple(LabelClass(name=name, value=value) for name, value in (("none", 0), ("up", 1), ("down", 4)))
    bundle = _bundle(tmp_path / "bundle", _unet(3, dims=2, channels=2), dims=2, channels=2, labels=labels)
    assert np.isfinite(_trained(bundle, data)).all()


def _trained(bundle: Path, data: Path) -> list[float]:
    """Losses of the steps of one epoch."""
    workflow = monai.bundle.ConfigWorkflow(
        config_file=str(bundle / "configs" / "train.json"),
        workflow_type="train",
        bundle_root=str(bundle),
        dataset_dir=str(data),
        epochs=1,
        val_interval=1,
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    losses: list[float] = []
    trainer = workflow.trainer
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output[0]["loss"]))
    )
    workflow.run()
    assert (bundle / "eval" / "model.pt").is_file()
    return losses
