"""Training that starts from the weights of another model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.errors import BundleError, PlanError, TrainingError
from unetpipe.stages.preprocess import preprocess
from unetpipe.stages.train import TrainResult, train


def _train(work: Path, **options: object) -> TrainResult:
    short = {"device": "cpu", "precision": "fp32", "epochs": 1, "iterations": 2, "tracking": "none"}
    result = train(TrainConfig.model_validate({"work": work} | short | options))
    assert isinstance(result, TrainResult)
    return result


def _weights(bundle: Path) -> dict[str, torch.Tensor]:
    return torch.load(bundle / "models" / "model.pt", weights_only=True)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def source(balls_work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the balls' dataset, hardly trained."""
    import shutil

    work = tmp_path_factory.mktemp("source") / "work"
    shutil.copytree(balls_work, work)
    return _train(work).bundle


@pytest.fixture(scope="module")
def other_work(balls: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The balls preprocessed by the source's plan, with one class only."""
    work = tmp_path_factory.mktemp("other") / "work"
    labels = {"background": "0,1", "dark": "2"}
    options = {"dataset": balls, "out": work, "preview": False, "folds": 3, "init": str(source), "labels": labels}
    preprocess(PreprocessConfig.model_validate(options))
    return work


def test_the_plan_is_that_of_the_model(source: Path, other_work: Path) -> None:
    """Voxel size, normalisation, patch, strides and widths are the bundle's, and no other configuration is planned."""
    plan = read_plan(other_work)
    spec = json.loads((source / "configs" / "metadata.json").read_text())["unetpipe"]
    (configuration,) = plan.configurations.values()
    assert list(configuration.patch_size) == spec["patch_size"]
    assert plan.preprocessing(plan.default).model_dump(mode="json") == spec["preprocessing"]
    assert configuration.features[0] == 8
    assert not plan.is_edited


def test_what_does_not_learn_stays_what_the_model_had(source: Path, other_work: Path, logged: list[str]) -> None:
    """With a frozen encoder its weights are the source's to the last bit; the head is new, and the rest has moved."""
    tuned = _weights(_train(other_work, init=str(source), freeze="encoder", run_name="frozen").bundle)
    before = _weights(source)
    head = {name for name in before if name.startswith("output_block")}
    assert all(before[name].shape != tuned[name].shape for name in head)
    encoder = [name for name in before if name.startswith(("input_block", "downsamples", "bottleneck"))]
    assert encoder
    assert all(torch.equal(before[name], tuned[name]) for name in encoder)
    decoder = [name for name in before if name.startswith("upsamples")]
    assert not any(torch.equal(before[name], tuned[name]) for name in decoder)
    said = "\n".join(logged)
    assert f"not loaded, as the classes differ: {', '.join(sorted(head))}" in said
    assert "weights of the encoder stay as they are" in said


def test_the_head_is_kept_for_the_same_classes(source: Path, logged: list[str]) -> None:
    """In the work folder of the source itself every weight is loaded, and moves little at a low rate."""
    work = source.parents[2]
    tuned = _weights(_train(work, init=str(source), init_rate=1e-6, run_name="again").bundle)
    before = _weights(source)
    assert all(torch.allclose(tuned[name], before[name], atol=1e-4) for name in before)
    assert not any("not loaded" in line for line in logged)


def test_a_run_goes_on_with_the_same_model_only(
    source: Path, other_work: Path, interrupt_at: Callable[..., None]
) -> None:
    """An interrupted run ends with the weights of an undisturbed one, and does not go on without its model."""
    options = {"init": str(source), "iterations": 4}
    whole = _weights(_train(other_work, run_name="whole", **options).bundle)
    interrupt_at(2)
    with pytest.raises(KeyboardInterrupt):
        _train(other_work, run_name="cut", **options)
    with pytest.raises(TrainingError, match="the model of --init has changed"):
        _train(other_work, run_name="cut", iterations=4)
    resumed = _weights(_train(other_work, run_name="cut", **options).bundle)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_plan_is_refused(source: Path, bundle_folder: Path, balls: Path, tmp_path: Path) -> None:
    """A work folder that was planned for the dataset, or options that would change the model's plan, are refused."""
    work = source.parents[2]
    with pytest.raises(PlanError, match=r"not that of bundle \(.*patch_size differ\)"):
        _train(work, init=str(bundle_folder), run_name="x")
    with pytest.raises(TrainingError, match="--network"):
        _train(work, init=str(source), network="unet", run_name="x")
    options = {"dataset": balls, "out": tmp_path / "new", "init": str(bundle_folder), "preview": False}
    with pytest.raises(PlanError, match="--spacing-mm cannot be given with --init"):
        preprocess(PreprocessConfig.model_validate({**options, "spacing_mm": (1, 1, 1)}))
    with pytest.raises(BundleError, match="no such file"):
        preprocess(PreprocessConfig.model_validate({**options, "init": "nothing"}))
