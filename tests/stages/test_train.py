"""Training from preprocessed cases to a bundle."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.verify import verify_bundle
from unetpipe.config.package import PackageConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import read_folds
from unetpipe.dataset.manifest import read_manifest, write_manifest
from unetpipe.documents import write_document
from unetpipe.errors import BundleError, PlanError, TrainingError, UnetpipeError
from unetpipe.folder_lock import claimed
from unetpipe.metrics.overlap import Overlap
from unetpipe.stages.package import package
from unetpipe.stages.train import FoldsResult, TrainResult, train
from unetpipe.training import held_out_prediction, measurement, setup, trainer, validation
from unetpipe.training.checkpoint import CHECKPOINT
from unetpipe.training.optimization.learner import Learner
from unetpipe.training.validation import HeldOut


def config(work: Path, **options: object) -> TrainConfig:
    short = {"device": "cpu", "precision": "fp32", "epochs": 2, "iterations": 2, "tracking": "none"}
    return TrainConfig.model_validate({"work": work} | short | options)


def run(work: Path, **options: object) -> TrainResult:
    result = train(config(work, **options))
    assert isinstance(result, TrainResult)
    return result


def weights(bundle: Path) -> dict[str, torch.Tensor]:
    return torch.load(bundle / "models" / "model.pt", weights_only=True)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "expected"), [("dynunet", 0.85), ("unet", 0.85)])
def test_learns(work: Path, network: str, expected: float) -> None:
    """Two balls in noise are found after a hundred steps, in either network."""
    result = run(work, network=network, epochs=5, iterations=24, precision="auto")
    assert result.mean_dice is not None
    assert result.mean_dice > expected
    labels = sorted(path.name for path in (result.bundle / "validation").iterdir())
    folds = json.loads((work / "folds.json").read_text())["folds"]
    assert labels == [f"{case}.nii.gz" for case in folds[0]["validation"]]


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("resenc", {}),
        ("unet", {"norm": "instance", "upsampling": "interpolated"}),
        ("segresnet", {}),
        pytest.param("swinunetr", {"feature_size": "12", "depths": "[1, 1, 1, 1]"}, marks=pytest.mark.slow),
        ("AttentionUnet", {"channels": "[4, 8]", "strides": "[2]"}),
    ],
)
def test_every_network_trains(work: Path, network: str, options: dict[str, str]) -> None:
    """An epoch in 3-D with three classes, and the bundle passes its checks."""
    path = work / "plan.yaml"
    plan = yaml.safe_load(path.read_text())
    configuration = plan["configurations"]["3d_fullres"]
    patch = [64, 32, 32] if network == "swinunetr" else [16, 16, 16]
    steps = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    configuration.update(patch_size=patch, features=[8, 16, 32], strides=steps, kernel_sizes=[[3, 3, 3]] * 3)
    path.write_text(yaml.safe_dump(plan))
    result = run(work, network=network, network_options=options, epochs=1)
    assert (result.epochs, result.iterations) == (1, 2)
    assert all(check.passed for check in verify_bundle(result.bundle))


def test_result_is_a_bundle_with_its_journal(work: Path) -> None:
    """Everything is there: configs, weights, card with the figures, curves, overlay, one line per epoch."""
    result = run(work, epochs=2)
    names = {str(path.relative_to(result.bundle)) for path in result.bundle.rglob("*") if path.is_file()}
    assert {
        "LICENSE",
        "checkpoint.pt",
        "config.yaml",
        "configs/inference.json",
        "configs/logging.conf",
        "configs/metadata.json",
        "curves.png",
        "docs/README.md",
        "metrics.jsonl",
        "models/model.pt",
        "overlay.png",
    } <= names
    assert [row["epoch"] for row in rows(result)] == [0, 1]
    assert rows(result)[1]["iteration"] == result.iterations == 4
    assert "| bright |" in (result.bundle / "docs" / "README.md").read_text()


def rows(result: TrainResult) -> list[dict[str, object]]:
    return [json.loads(line) for line in (result.bundle / "metrics.jsonl").read_text().splitlines()]


def test_interrupted_twice_equals_undisturbed(work: Path, interrupt_at: Callable[..., None]) -> None:
    """Signals in the middle of the first epoch and of the third: the same weights bit for bit, the same journal."""
    undisturbed = run(work, run_name="undisturbed", epochs=4, iterations=3)
    interrupt_at(1, 6)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(work, run_name="interrupted", epochs=4, iterations=3)
    resumed = run(work, run_name="interrupted", epochs=4, iterations=3)
    assert resumed.iterations == undisturbed.iterations == 12
    for name in ("models/model.pt", "best.pt"):
        before, after = (torch.load(r.bundle / name, weights_only=True) for r in (undisturbed, resumed))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    timed = {"seconds", "patches_per_second", "data_wait", "memory_gb", "system"}
    assert [{key: row[key] for key in row.keys() - timed} for row in rows(undisturbed)] == [
        {key: row[key] for key in row.keys() - timed} for row in rows(resumed)
    ]
    assert resumed.dice == undisturbed.dice


def test_a_finished_run_is_left_alone(work: Path, logged: list[str]) -> None:
    """The same call again says so, gives the same result and touches nothing."""
    first = run(work, epochs=1)
    logged.clear()
    stamps = {path: path.stat().st_mtime_ns for path in first.bundle.rglob("*")}
    assert run(work, epochs=1) == first
    assert logged == ["run default/fold_0 is finished"]
    assert {path: path.stat().st_mtime_ns for path in first.bundle.rglob("*")} == stamps


def test_a_run_goes_on_only_with_the_same_options(work: Path) -> None:
    """Other options, another plan or another split are refused by name."""
    run(work, epochs=1)
    with pytest.raises(TrainingError, match=r"different options \(--epochs was 1, is 3; --seed was 0, is 1\)"):
        run(work, epochs=3, seed=1)
    plan = yaml.safe_load((work / "plan.yaml").read_text())
    plan["configurations"]["3d_fullres"]["batch_size"] += 1
    (work / "plan.yaml").write_text(yaml.safe_dump(plan))
    with pytest.raises(TrainingError, match=r"plan\.yaml has changed"):
        run(work, epochs=1)


def test_a_run_does_not_go_on_with_other_cases(work: Path) -> None:
    """A label that was corrected, and preprocessed anew, leads to the same plan; the run would be of both."""
    run(work, epochs=1)
    assert run(work, epochs=1).epochs == 1
    record = next((work / "cases" / "3d_fullres").glob("*.json"))
    stored = json.loads(record.read_text())
    record.write_text(json.dumps(stored | {"key": "of another label"}))
    with pytest.raises(TrainingError, match="dataset has changed"):
        run(work, epochs=1)
    path = work / "runs" / "default" / "fold_0" / CHECKPOINT
    state = torch.load(path, weights_only=True)
    del state["digests"]["dataset"]  # as in a checkpoint of an earlier version
    torch.save(state, path)
    assert run(work, epochs=1).epochs == 1


def test_folds_of_a_run_are_of_one_split(work: Path, tmp_path: Path) -> None:
    """A split made anew between two folds would have them learn from each other's held-out cases."""
    for fold in (0, 1):
        run(work, epochs=1, fold=fold)
    before = read_folds(work)
    first, second, third = before.folds
    write_document(work / "folds.json", before.model_copy(update={"folds": (first, third, second)}))
    with pytest.raises(TrainingError, match=r"run default: fold 1 was trained with another split than folds\.json has"):
        run(work, epochs=1, fold=2)
    assert run(work, epochs=1, fold=2, run_name="other").fold == 2
    shutil.copytree(work / "runs" / "other" / "fold_2", work / "runs" / "default" / "fold_2")  # as earlier versions did
    ensemble = PackageConfig(model=work / "runs" / "default", folds="all", out=tmp_path / "all")
    with pytest.raises(BundleError, match="fold 1 was trained with another split than fold 0, 2: they are no ensemble"):
        package(ensemble)
    write_document(work / "folds.json", before.model_copy(update={"folds": (third, second, first)}))
    assert package(ensemble.model_copy(update={"folds": "0,2"})).passed  # both of a split that has gone


@pytest.mark.parametrize("patients", [False, True])
def test_a_fold_that_splits_a_patient_is_refused(work: Path, patients: bool) -> None:
    """Where patients are kept together, a person's folds have to as well; where they are not, they may do otherwise."""
    manifest = read_manifest(work)
    fold = read_folds(work).folds[0]
    one = dict.fromkeys((fold.train[0], fold.validation[0]), "somebody")
    cases = tuple(case.model_copy(update={"patient": one.get(case.id)}) for case in manifest.cases)
    write_manifest(work, manifest.model_copy(update={"cases": cases}))
    write_document(work / "folds.json", read_folds(work).model_copy(update={"by_patient": patients}))
    if patients:
        with pytest.raises(TrainingError, match=r"fold 0 trains on \w+ and holds out \w+ of one patient"):
            run(work, epochs=1)
    else:
        assert run(work, epochs=1).epochs == 1


@pytest.mark.parametrize(("part", "message"), [("train", "trains on no case"), ("validation", "holds out no case")])
def test_a_fold_without_cases_is_refused(work: Path, part: str, message: str) -> None:
    """Before a folder of the run is made."""
    folds = read_folds(work)
    first = folds.folds[0].model_copy(update={part: ()})
    write_document(work / "folds.json", folds.model_copy(update={"folds": (first, *folds.folds[1:])}))
    with pytest.raises(TrainingError, match=f"fold 0 {message}: it needs at least one"):
        run(work, epochs=1)
    assert not (work / "runs").exists()


@pytest.mark.parametrize("options", [{"deploy": "best"}, {"patience": 3}, {"target_dice": 0.5}])
def test_what_validation_decides_needs_a_class_to_go_by(work: Path, options: dict[str, object]) -> None:
    """Where the cases that validate are all empty, the first epoch would be the best for ever."""
    assert run(work, epochs=1, **options).epochs >= 1
    held_out = read_folds(work).folds[0].validation
    for path in (work / "cases" / "3d_fullres").glob("*.json"):
        record = json.loads(path.read_text())
        if record["id"] in held_out:
            path.write_text(json.dumps(record | {"class_voxels": [8000, 0, 0], "locations": {}}))
    with pytest.raises(TrainingError, match="none of the cases that validate holds a class"):
        run(work, epochs=1, run_name="empty", **options)
    assert run(work, epochs=1, run_name="last").epochs == 1


def test_two_processes_do_not_share_a_run(work: Path) -> None:
    """A second training in the same folder is refused while the first one holds it."""
    with claimed(work / "runs" / "default" / "fold_0"), pytest.raises(UnetpipeError, match="in use by process"):
        run(work, epochs=1)


def test_reaching_the_target_ends_training_on_a_low_rate(work: Path) -> None:
    """A target that the first epoch reaches: the schedule is run through in one more epoch; unseen cases are named."""
    result = run(work, epochs=50, iterations=10, target_dice=1e-6)
    assert result.epochs == 2
    assert rows(result)[-1]["learning_rate"] < 2e-4  # type: ignore[operator]  # a tenth of the peak
    assert (result.cases, result.unseen) == (1, True)
    assert "the 1 other decided" in (result.bundle / "docs" / "README.md").read_text()


def test_patience_ends_training(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dice that rises no more: after two epochs training ends, and the best weights are the first epoch's."""
    found = iter([50, 40, 30, 20, 10])
    monkeypatch.setattr(HeldOut, "count", lambda *_: (Overlap(next(found), 100, 100), Overlap(0, 0, 0)))
    result = run(work, epochs=50, iterations=2, patience=2, deploy="best")
    assert result.epochs == 4
    assert result.weights == "best"
    best, last = (torch.load(result.bundle / f"{name}.pt", weights_only=True) for name in ("best", "last"))
    deployed = weights(result.bundle)
    assert all(torch.equal(deployed[key], best[key]) for key in best)
    assert not all(torch.equal(deployed[key], last[key]) for key in last)
    assert json.loads((result.bundle / "configs" / "metadata.json").read_text())["unetpipe"]["weights"] == "best"


def test_best_weights_outlive_an_interruption(
    work: Path, monkeypatch: pytest.MonkeyPatch, interrupt_at: Callable[..., None]
) -> None:
    """Found in the first epoch, before a signal in the second one: they are what is deployed in the end."""
    found = iter([50, 40, 30])
    monkeypatch.setattr(HeldOut, "count", lambda *_: (Overlap(next(found), 100, 100), Overlap(0, 0, 0)))
    interrupt_at(3)
    with pytest.raises(KeyboardInterrupt):
        run(work, epochs=3, deploy="best")
    first = torch.load(work / "runs" / "default" / "fold_0" / "best.pt", weights_only=True)
    deployed = weights(run(work, epochs=3, deploy="best").bundle)
    assert all(torch.equal(deployed[key], first[key]) for key in first)


def test_minutes_are_kept(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute, on a clock that only optimiser steps move, by two seconds each: what comes after the last step has its
    time, the steps have the rest, and the schedule goes to its end.
    """
    clock, step = SimpleNamespace(now=0.0), Learner.step

    def slow(self: Learner, *args: object) -> object:
        clock.now += 2
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "step", slow)
    monkeypatch.setattr(validation.HeldOut, "window_seconds", lambda *_: 0.25)
    for module in (setup, measurement, trainer, validation, held_out_prediction):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    result = run(work, epochs=None, iterations=250, max_minutes=1)
    evidence = read_bundle(result.bundle).spec.evidence
    assert evidence is not None
    choice = evidence.folds[0].choice
    assert choice is not None
    assert choice.setup_seconds == 3 * 2
    assert choice.seconds < 60 - 5  # less saving, and the held-out cases
    assert result.iterations == (choice.seconds - 3 * 2) // 2 + 1  # the last overlaps
    assert result.iterations >= choice.steps  # on this clock validation takes no time
    assert len(rows(result)) == result.epochs
    assert result.seconds == 3 * 2 + result.iterations * 2 <= 60
    assert rows(result)[-1]["learning_rate"] < 0.1 * max(row["learning_rate"] for row in rows(result))  # type: ignore


def test_folds_of_a_config_are_trained(work: Path, interrupt_at: Callable[..., None], logged: list[str]) -> None:
    """Interrupted in the second fold and called again: the first is left alone, and the result has a row for each."""
    options = {"epochs": 1, "folds": "0,2"}
    interrupt_at(1)
    with pytest.raises(KeyboardInterrupt):
        train(config(work, **options))
    interrupt_at(1)
    with pytest.raises(KeyboardInterrupt):
        train(config(work, **options))
    logged.clear()
    result = train(config(work, **options))
    assert isinstance(result, FoldsResult)
    assert logged[0] == "run default/fold_0 is finished"
    assert [row.fold for row in result.folds] == [0, 2]
    assert result.dice.keys() == {"bright", "dark"}


def test_all_folds_of_a_config_are_trained(work: Path) -> None:
    """`folds="all"` means those of the work folder, from Python as on the command line."""
    result = train(config(work, epochs=1, iterations=1, folds="all"))
    assert isinstance(result, FoldsResult)
    assert [row.fold for row in result.folds] == [0, 1, 2]


@pytest.mark.parametrize("options", [{}, {"folds": "all", "tracking": "mlflow"}])
def test_a_folder_that_was_never_prepared_is_named(tmp_path: Path, options: dict[str, object]) -> None:
    """Nothing is written there, or into a tracking store."""
    with pytest.raises(PlanError, match=r"is missing in .*work: run `unetpipe preprocess DATASET --out WORK` first"):
        train(config(tmp_path / "work", **options))
    assert not (tmp_path / "work").exists()


def test_a_broken_case_is_named(work: Path) -> None:
    """A truncated array stops training with the case's id, and no thread stays behind."""
    folds = json.loads((work / "folds.json").read_text())["folds"]
    for case in folds[0]["train"]:
        path = work / "cases" / "3d_fullres" / f"{case}.b2nd"
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(TrainingError, match=r"ball_\d: preprocessed case cannot be read"):
        run(work)
    for thread in threading.enumerate():
        if thread.name.startswith("patches"):
            thread.join(60)
            assert not thread.is_alive()


def test_a_label_in_another_axis_order_counts_the_same(work: Path, tmp_path: Path) -> None:
    """The held-out label rewritten with permuted and flipped axes, same voxels: the same final Dice."""
    before = run(work, epochs=1, run_name="before").dice
    manifest = json.loads((work / "manifest.json").read_text())
    labels = {case.id: case.label for case in read_manifest(work).cases}
    folds = json.loads((work / "folds.json").read_text())["folds"]
    for case in manifest["cases"]:
        if case["id"] in folds[0]["validation"]:
            image = nib.load(labels[case["id"]])
            turned = image.as_reoriented(nib.orientations.axcodes2ornt(("S", "P", "R")))
            case["label"] = str(tmp_path / f"{case['id']}.nii.gz")
            nib.save(turned, case["label"])
    (work / "manifest.json").write_text(json.dumps(manifest))
    assert run(work, epochs=1, run_name="after").dice == before


def test_a_label_that_has_changed_is_named(work: Path, tmp_path: Path) -> None:
    """Another shape than when it was preprocessed: one line with the case, not an index error."""
    manifest = json.loads((work / "manifest.json").read_text())
    for case in manifest["cases"]:
        case["label"] = str(tmp_path / f"{case['id']}.nii.gz")
        nib.save(nib.Nifti1Image(np.zeros((5, 6, 7), np.uint8), np.eye(4)), case["label"])
    (work / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainingError, match=r"ball_\d: its label has changed"):
        run(work, epochs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 7}, "fold must be from 0 to 2, got 7"),
        ({"configuration": "4d"}, "the plan has configurations"),
        ({"max_minutes": 0.001}, "not enough"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(work: Path, options: dict[str, object], message: str) -> None:
    """Before any work is done."""
    with pytest.raises(TrainingError, match=message) as error:
        run(work, **options)
    assert "\n" not in str(error.value)
    assert not (work / "runs").exists()


def test_the_bundle_says_how_it_was_trained(work: Path) -> None:
    """Recipe and evidence are those of the run: PyTorch's optimiser with its options, cases, Dice of each, time."""
    result = run(work, optimizer="sgd", learning_rate=0.005, augmentation="none", ema=0.0, clip=0.0)
    spec = read_bundle(result.bundle).spec
    assert spec.recipe.optimizer == {
        "_target_": "torch.optim.SGD", "lr": 0.005, "momentum": 0.99, "weight_decay": 3e-5, "nesterov": True,
    }  # fmt: skip
    assert not spec.recipe.augmented
    assert "deep supervision" in spec.recipe.differences
    assert not any("optimiser" in difference for difference in spec.recipe.differences)
    assert spec.evidence is not None
    (fold,) = spec.evidence.folds
    assert (fold.training_cases, fold.held_out_cases, fold.optimizer) == (4, 2, "sgd")
    assert set(fold.dice) == {"bright", "dark"}
    for name, mean in result.dice.items():
        known = [value for value in fold.dice[name] if value is not None]
        assert mean == pytest.approx(sum(known) / len(known))
    assert fold.iterations == result.iterations
    assert fold.seconds_per_case > 0
    other = read_bundle(run(work, run_name="muon").bundle).spec.recipe
    assert other.optimizer["_target_"] == "torch.optim.AdamW"
    assert "muon as the optimiser" in other.differences
