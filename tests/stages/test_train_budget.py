"""A training whose minutes are too few for its plan."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.write import CARD
from unetpipe.config.info import InfoConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.sync import SyncConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.held_out_sample import read_sample
from unetpipe.dataset.planning import reduction
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.stages.info import BundleFolder, info
from unetpipe.stages.preprocess import preprocess
from unetpipe.stages.sync import sync
from unetpipe.stages.train import TrainResult, train
from unetpipe.training import first_state, held_out_prediction, measurement, setup, trainer, validation
from unetpipe.training.distributed.group import Group
from unetpipe.training.optimization.learner import Learner
from unetpipe.training.setup import Setup
from unetpipe.training.validation import HeldOut


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only optimiser steps move, by two seconds each; patches that may be halved to 8 voxels; and held-out
    cases that take so long to read that there is time for two of them.
    """
    clock, step = SimpleNamespace(now=0.0), Learner.step

    def slower(self: Learner, *args: object) -> object:
        clock.now += 2
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "step", slower)
    for module in (setup, measurement, trainer, validation, held_out_prediction):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(reduction, "_SHORTEST_AXIS", {3: 8})
    monkeypatch.setattr(HeldOut, "case_seconds", lambda _self: 4.0)


def run(work: Path, **options: object) -> TrainResult:
    given = {"work": work, "max_minutes": 1, "device": "cpu", "precision": "fp32", "tracking": "none"}
    result = train(TrainConfig.model_validate(given | options))
    assert isinstance(result, TrainResult)
    return result


@pytest.mark.usefixtures("slow")
def test_a_smaller_plan_is_trained_recorded_and_gone_on_with(
    work: Path, interrupt_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    """The bundle has the smaller patch and says why; an interrupted run ends with the same weights; further folds take
    the same patch; and the held-out cases that there was no time for are counted in the card.
    """
    plan = read_plan(work).configurations["3d_fullres"]
    folds = json.loads((work / "folds.json").read_text())
    cases = [*folds["folds"][0]["train"], *folds["folds"][0]["validation"]]
    folds["folds"] = [{"train": cases[3:], "validation": cases[:3]}, {"train": cases[:3], "validation": cases[3:]}]
    (work / "folds.json").write_text(json.dumps(folds))
    result = run(work)
    bundle = read_bundle(result.bundle)
    assert bundle.spec.evidence is not None
    evidence = bundle.spec.evidence.folds[0]
    assert evidence.choice is not None
    assert bundle.spec.patch_size == evidence.choice.configuration.patch_size
    assert max(bundle.spec.patch_size) < 16 <= max(plan.patch_size)
    assert len(bundle.network_def["strides"]) == max(3, len(evidence.choice.configuration.strides))
    assert evidence.iterations >= evidence.choice.steps  # on this clock validation and saving take no time
    assert any("so that it is made smaller: patch" in line for line in logged)
    sync(SyncConfig(runs=(result.bundle,)))
    with sqlite3.connect(work / "mlflow.db") as database:
        parameters = dict(database.execute("select key, value from params"))
    assert parameters["configuration.patch_size"] == str(list(bundle.spec.patch_size))

    held_out = cases[:3]
    predicted = read_sample(result.bundle / "validation")
    assert predicted is not None
    assert predicted.held_out == tuple(held_out)
    assert set(predicted.cases) < set(held_out)
    assert len(predicted.cases) == evidence.choice.held_out == 2
    assert "There was no time for 1 case," in (result.bundle / CARD).read_text()
    assert "2 of the 3 held-out cases" in " ".join(logged)

    shown = info(InfoConfig(path=result.bundle))
    assert isinstance(shown, BundleFolder)
    assert shown.considered == evidence.choice.considered
    assert f"{evidence.iterations} were made" in shown.budget[0]

    interrupt_at(4)
    with pytest.raises(KeyboardInterrupt):
        run(work, run_name="cut")
    cut = run(work, run_name="cut")
    before, after = (torch.load(one.bundle / "models/model.pt", weights_only=True) for one in (result, cut))
    assert all(torch.equal(before[name], after[name]) for name in before)

    monkeypatch.setattr(first_state, "ENOUGH_STEPS", 1)
    patch = {"fold": 0, "name": "3d_fullres", "patch_size": bundle.spec.patch_size}
    (work / "runs" / "at once").mkdir()
    (work / "runs" / "at once" / "patch.json").write_text(json.dumps(patch))  # fold 0 has no checkpoint yet
    assert read_bundle(run(work, fold=1, run_name="at once").bundle).spec.patch_size == bundle.spec.patch_size
    assert read_bundle(run(work, fold=1).bundle).spec.patch_size == bundle.spec.patch_size
    shutil.copytree(result.bundle, work / "runs" / "enough" / "fold_0_backup")  # no fold, whose patch would be followed
    assert read_bundle(run(work, run_name="enough").bundle).spec.patch_size == plan.patch_size


@pytest.mark.parametrize(("network", "others"), [("auto", {"2d"}), ("segresnet", set()), ("SegResNet", set())])
def test_other_configurations_are_weighed_where_the_network_fits_them(
    balls: Path, work: Path, network: str, others: set[str]
) -> None:
    """Slices of volumes suit a network that follows the plan; not one that halves every axis or has its own size."""
    preprocess(PreprocessConfig(dataset=balls, out=work, configuration="2d", folds=3, preview=False))
    config = TrainConfig(work=work, max_minutes=1, device="cpu", network=network)
    found = {one.name for one in first_state._versions(Setup.of(config, Group(), torch.device("cpu")))}
    assert found == {"3d_fullres", *others}
