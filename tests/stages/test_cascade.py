"""A cascade: a run's labels are further channels of another run, and one bundle holds both."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
import torch

from unetpipe.bundle.ensemble import TrainedModel, ensemble_of, write_ensemble, write_part
from unetpipe.bundle.pack import pack
from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.verify import verify_bundle
from unetpipe.bundle.write import write_bundle
from unetpipe.choice.choose import choose
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import read_folds
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.manifest import read_manifest
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.dataset.store import CaseStore
from unetpipe.errors import BundleError, TrainingError
from unetpipe.imaging.files import read_volume
from unetpipe.imaging.labels import renumbered
from unetpipe.networks.build import build_network
from unetpipe.networks.unets import sequential
from unetpipe.stages.train import TrainResult, train
from unetpipe.training.case_files import CaseFiles


def linear_network(weights: list[list[float]], bias: list[float]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A network whose logits are straight lines over its channels."""
    layer = {"_target_": "torch.nn.Conv3d", "in_channels": len(weights[0]), "out_channels": 3, "kernel_size": 1}
    definition = sequential(layer)
    state = build_network(definition).state_dict()
    state["0.weight"], state["0.bias"] = torch.tensor(weights).reshape(3, -1, 1, 1, 1), torch.tensor(bias)
    return definition, state


@pytest.fixture
def work(work: Path) -> Path:
    """A work folder with a run of low resolution, `low`, whose networks find both balls by their brightness alone."""
    manifest, plan, files = read_manifest(work), read_plan(work), CaseFiles(read_manifest(work))
    preprocessing = plan.preprocessing("3d_fullres").model_copy(update={"spacing_mm": (2.0, 2.0, 2.0)})
    network = linear_network([[0.0], [4.0], [-4.0]], [0.0, -6.0, -6.0])
    for number, fold in enumerate(read_folds(work).folds):
        folder = work / "runs" / "low" / f"fold_{number}"
        spec = ModelSpec(
            spatial_dims=3,
            channels=manifest.channels,
            labels=manifest.labels,
            preprocessing=preprocessing,
            patch_size=(8, 8, 8),
            mirror_axes=(0, 1, 2),
            postprocessing=("bright",),
        )
        write_bundle(folder, spec, *network)
        predictor = Predictor(folder, device="cpu")
        for case in fold.validation:
            image = files.image(case)
            labels = predictor.segment(predictor.prepare(image)).labels
            files.write(case, renumbered(labels, {0: 0, 1: 1, 2: 2}, other=0), image.source, folder / "validation")
    return work


def cascade(work: Path, **more: Any) -> TrainConfig:
    return TrainConfig(
        **{
            "work": work, "first_stage": "low", "run_name": "cascade", "epochs": 1, "iterations": 4, "device": "cpu",
            "tracking": "none", **more,
        }
    )  # fmt: skip


def test_a_cascade_is_trained_on_out_of_fold_labels_and_ships_both_models(work: Path, tmp_path: Path) -> None:
    """The labels that validation wrote are those that the bundle gives, as a folder and as a zip."""
    result = train(cascade(work))
    assert isinstance(result, TrainResult)
    bundle = read_bundle(result.bundle)
    assert bundle.spec.first_stage is not None
    assert (bundle.spec.input_channels, bundle.network_def["in_channels"]) == (3, 3)
    assert bundle.parts["first_stage"].sha256 == read_bundle(work / "runs" / "low" / "fold_0").sha256
    assert [check for check in verify_bundle(result.bundle) if not check.passed] == []
    assert "the labels of the model in `parts/first_stage`" in (result.bundle / "docs" / "README.md").read_text()

    manifest, files = read_manifest(work), CaseFiles(read_manifest(work))
    store = CaseStore(work, "3d_fullres.after.low")
    for number, fold in enumerate(read_folds(work).folds):
        for case in fold.validation:  # at 1 mm the network's grid is that of the files, in RAS+ order
            expected = files.reduced(case, (), work / "runs" / "low" / f"fold_{number}" / "validation")
            np.testing.assert_array_equal(store.load(case)[0], expected[::-1])

    pack(result.bundle, tmp_path / "cascade.zip")
    for path in (result.bundle, tmp_path / "cascade.zip"):
        predictor = Predictor(path, device="cpu")
        for case in read_folds(work).folds[0].validation:
            image = files.image(case)
            expected = read_volume(files.predicted(case, result.bundle / "validation")).array[0]
            np.testing.assert_array_equal(predictor.segment(predictor.prepare(image)).labels, expected)
    assert manifest.channels == bundle.spec.channels

    assert train(cascade(work)) == result  # finished: the same labels of the first stage, the same run
    changed = next((work / "runs" / "low" / "fold_1" / "validation").iterdir())
    other = next(path for path in changed.parent.iterdir() if path != changed)
    shutil.copyfile(other, changed)
    with pytest.raises(TrainingError, match="the first stage's labels has changed"):
        train(cascade(work))


def test_monai_alone_runs_it_in_two_commands(work: Path, tmp_path: Path) -> None:
    """The first stage writes labels, and the second one reads them as further channels."""
    bundle = copying_cascade(work, 0, spacing_mm=1.2)
    (image,) = read_manifest(work).cases[0].images
    for folder, out in ((bundle / "parts" / "first_stage", "first"), (bundle, "out")):
        monai.bundle.run(
            config_file=str(folder / "configs" / "inference.json"),
            bundle_root=str(folder),
            dataset_dir=str(image.parent),
            pattern=image.name,
            output_dir=str(tmp_path / out),
            device="$torch.device('cpu')",
            **({"first_stage_dir": str(tmp_path / "first")} if out == "out" else {}),
        )
    predictor = Predictor(bundle, device="cpu")
    scan = CaseFiles(read_manifest(work)).image(read_manifest(work).cases[0].id)
    expected = predictor.segment(predictor.prepare(scan)).labels
    found = read_volume(tmp_path / "out" / image.name).array[0]
    assert len(np.unique(expected)) == 3
    assert (found == expected).mean() > 0.9995


def copying_cascade(work: Path, fold: int, spacing_mm: float = 1.0, run: str = "copy") -> Path:
    """A cascade whose second stage repeats the labels of the first, and looks at nothing else."""
    first = read_bundle(work / "runs" / "low" / f"fold_{fold}")
    folder = work / "runs" / run / f"fold_{fold}"
    preprocessing = first.spec.preprocessing.model_copy(update={"spacing_mm": (spacing_mm,) * 3})
    spec = first.spec.model_copy(
        update={
            "preprocessing": preprocessing,
            "patch_size": (16, 16, 16),
            "postprocessing": (),
            "first_stage": write_part(folder, "first_stage", TrainedModel(first.spec, first.members())),
        }
    )
    network = linear_network([[0.0, -1.0, -1.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]], [1.0, 0.0, 0.0])
    write_bundle(folder, spec, *network)
    shutil.copytree(work / "runs" / "low" / f"fold_{fold}" / "validation", folder / "validation")
    return folder


def test_the_second_stage_sees_the_labels_of_the_first(work: Path) -> None:
    """A second stage that repeats them gives them: on the file's grid, with the first stage's post-processing."""
    bundle = copying_cascade(work, 0)
    image = CaseFiles(read_manifest(work)).image("ball_0")
    first, both = (Predictor(path, device="cpu") for path in (bundle / "parts" / "first_stage", bundle))
    expected = first.segment(first.prepare(image)).labels
    assert len(np.unique(expected)) == 3
    np.testing.assert_array_equal(both.segment(both.prepare(image)).labels, expected)


def test_a_first_stage_of_another_task_is_refused(work: Path) -> None:
    """A bundle from elsewhere may hold anything: classes that are not the second stage's would be other channels."""
    bundle = read_bundle(copying_cascade(work, 0))
    first = bundle.parts["first_stage"]
    labels = (*first.spec.labels[:2], LabelClass(name="kidney", value=9))
    other = TrainedModel(first.spec.model_copy(update={"labels": labels}), first.members())
    folder = work / "runs" / "copy" / "fold_0"
    part = write_part(folder, "first_stage", other)
    write_bundle(folder, bundle.spec.model_copy(update={"first_stage": part}), bundle.network_def, bundle.state_dict())
    with pytest.raises(BundleError, match="fold_0/first_stage: no first stage of fold_0: their labels differ"):
        Predictor(folder, device="cpu")


def test_folds_of_a_cascade_become_one_bundle_with_their_first_stages(work: Path, tmp_path: Path) -> None:
    """The labels of all first stages' mean are what all second stages see; the same folds give the same bundle."""
    folds = {fold: read_bundle(copying_cascade(work, fold)) for fold in range(2)}
    write_ensemble(tmp_path / "all", ensemble_of(folds))
    bundle = read_bundle(tmp_path / "all")
    assert bundle.spec.folds == bundle.parts["first_stage"].spec.folds == (0, 1)
    assert len(Predictor(tmp_path / "all", device="cpu")._groups) == 1
    write_ensemble(tmp_path / "all", ensemble_of(folds))
    assert read_bundle(tmp_path / "all").version == "0.1.0"
    plain = {0: folds[0], 1: read_bundle(work / "runs" / "low" / "fold_1")}
    with pytest.raises(BundleError):
        ensemble_of(plain)


def test_a_cascade_is_compared_with_its_first_stage(work: Path, tmp_path: Path) -> None:
    """One that only repeats it is no better, and is not chosen; a pair of both neither."""
    for fold in range(3):
        copying_cascade(work, fold)
    config = EvaluateConfig(predictions=(work,), cross_validation=True, choose=True, out=tmp_path / "out", report=False)
    result = choose(config)
    rows = {row.name: row for row in result.candidates}
    assert rows["copy"].configurations == "3d_fullres_cascade"
    assert rows["low"].dice is not None
    assert rows["copy"].dice == pytest.approx(rows["low"].dice, abs=0.02)
    assert result.chosen in ("low", "copy")
    assert result.passed


def test_a_first_stage_that_cannot_be_one_is_refused(work: Path, tmp_path: Path) -> None:
    """Each with one line that names what is missing, also where the path of the work folder has a space."""
    work = work.rename(tmp_path / "my work")
    with pytest.raises(TrainingError, match="--first-stage other: fold 0 has not been trained") as raised:
        train(cascade(work, first_stage="other"))
    command = ["unetpipe", "train", str(work), "--folds", "all", "--run-name", "other"]
    assert shlex.split(str(raised.value))[-7:] == command
    with pytest.raises(TrainingError, match="--first-stage cannot be given with --init"):
        train(cascade(work, init=str(work / "runs" / "low" / "fold_0")))
    step = {"_target_": "monai.transforms.RandBiasFieldd", "prob": 0.3}
    with pytest.raises(TrainingError, match="--augmentation-steps cannot be given with --first-stage"):
        train(cascade(work, augmentation_steps=(step,)))
    next((work / "runs" / "low" / "fold_2" / "validation").iterdir()).unlink()
    with pytest.raises(TrainingError, match="1 case has no labels of the fold that held it out, such as ball_"):
        train(cascade(work))
