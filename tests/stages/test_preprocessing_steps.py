"""A preprocessing step that a person names, from the command line to labels with MONAI alone."""

import json
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from unetpipe import components
from unetpipe.cli import app
from unetpipe.config.infer import InferConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import read_folds
from unetpipe.dataset.manifest import read_manifest
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.dataset.store import CaseStore
from unetpipe.errors import ComponentError, PlanError, TrainingError, UnetpipeError
from unetpipe.stages.infer import infer
from unetpipe.stages.preprocess import preprocess
from unetpipe.stages.train import train

PERCENTILES = {
    "_target_": "monai.transforms.ScaleIntensityRangePercentilesd",
    "lower": 1,
    "upper": 99,
    "b_min": 0,
    "b_max": 1,
}
PAD = {"_target_": "monai.transforms.DivisiblePadd", "k": 16}
CROP = {"_target_": "monai.transforms.CenterSpatialCropd", "roi_size": [18, 16, 20]}


def test_a_model_of_other_steps_gives_the_same_labels_with_monai_alone(balls: Path, tmp_path: Path) -> None:
    """Typed steps are in plan, cases, bundle and config; infer, MONAI and the end of training agree on the labels."""
    work = tmp_path / "work"
    typed = ["--preprocessing-step", json.dumps(PERCENTILES), "--preprocessing-step", json.dumps(CROP)]
    more = ["--preprocessing-step", yaml.safe_dump(PAD, default_flow_style=True).strip()]
    result = CliRunner().invoke(app, ["preprocess", str(balls), "--out", str(work), "--no-preview", *typed, *more])
    assert result.exit_code == 0, result.output
    assert read_plan(work).steps == ("normalize", PERCENTILES, CROP, PAD)
    case = CaseStore(work, "3d_fullres").load(read_manifest(work).cases[0].id)
    assert case.shape == (2, 32, 16, 32)
    assert -0.2 < case[0].min() < 0.1
    assert 0.9 < case[0].max() < 1.2
    assert not case[0, :7].any()  # the padding
    plan = yaml.safe_load((work / "plan.yaml").read_text())
    plan["configurations"]["3d_fullres"] |= {"features": [8, 16, 32, 64], "batch_size": 2}
    strides = len(plan["configurations"]["3d_fullres"]["strides"])
    plan["configurations"]["3d_fullres"]["features"] = [8, 16, 32, 64][:strides]
    (work / "plan.yaml").write_text(yaml.safe_dump(plan))

    bundle = train(
        TrainConfig(work=work, device="cpu", precision="fp32", epochs=2, iterations=12, tracking="none")
    ).bundle
    held_out = read_folds(work).folds[0].validation
    images = tmp_path / "images"
    images.mkdir()
    for one in read_manifest(work).cases:
        if one.id in held_out:
            (images / one.images[0].name).symlink_to(one.images[0])
    infer(InferConfig(models=(bundle,), inputs=(images,), out=tmp_path / "ours", device="cpu", precision="fp32"))
    monai.bundle.run(
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
        dataset_dir=str(images),
        output_dir=str(tmp_path / "theirs"),
        device="$torch.device('cpu')",
    )
    for one in held_out:
        ours, theirs, reported = (
            np.asarray(nib.load(folder / f"{one}.nii.gz").dataobj)
            for folder in (tmp_path / "ours", tmp_path / "theirs", bundle / "validation")
        )
        np.testing.assert_array_equal(ours, reported)
        assert (ours == theirs).mean() >= 0.9995
        assert len(np.unique(ours)) > 1
        assert not ours[:, :2].any(), "what a step cut off was found"


def test_steps_are_part_of_the_plan_and_of_the_cases_keys(balls: Path, tmp_path: Path) -> None:
    """The same steps leave everything alone, other ones prepare every case anew, and an edit of the plan counts."""
    work = tmp_path / "work"

    def written(*steps: object) -> int:
        config = {"dataset": balls, "out": work, "preview": False, "preprocessing_step": steps}
        return preprocess(PreprocessConfig.model_validate(config)).written

    assert [written(), written(), written(CROP), written(CROP)] == [6, 0, 6, 0]
    assert written("normalize", CROP) == 0  # said in full
    assert written(CROP, "normalize") == 6
    assert read_plan(work).steps == (CROP, "normalize")
    text = (work / "plan.yaml").read_text()
    (work / "plan.yaml").write_text(text.replace("[18, 16, 20]", "[18, 18, 20]"))
    with pytest.raises(TrainingError, match=r"plan\.yaml has changed since 6 cases were preprocessed, such as ball_0"):
        train(TrainConfig(work=work, device="cpu", epochs=1, tracking="none"))
    assert written(CROP, "normalize") == 6


def test_what_cannot_be_used_is_refused_before_anything_is_written(balls: Path, tmp_path: Path) -> None:
    """A random transform in one line, and so a step that an edited plan holds; no work folder comes of it."""
    config = PreprocessConfig(
        dataset=balls, out=tmp_path / "work", preprocessing_step=({"_target_": "monai.transforms.RandFlipd"},)
    )
    with pytest.raises(ComponentError, match="is random"):
        preprocess(config)
    assert not (tmp_path / "work").exists()
    preprocess(config.model_copy(update={"preprocessing_step": (), "preview": False}))
    plan = tmp_path / "work" / "plan.yaml"
    text = plan.read_text()
    plan.write_text(text.replace("  - normalize\n", "  - normalize\n  - {_target_: monai.transforms.Nothingd}\n"))
    with pytest.raises(ComponentError, match="no preprocessing class"):
        preprocess(config.model_copy(update={"preprocessing_step": ()}))
    plan.write_text(text.replace("  - normalize\n", "  - normalize\n  - normalize\n"))
    with pytest.raises(PlanError, match=r"plan\.yaml: .*2 times"):
        preprocess(config.model_copy(update={"preprocessing_step": ()}))


def test_cases_are_prepared_anew_when_the_code_of_a_step_changes(balls: Path, tmp_path: Path) -> None:
    """A step of an extension is another step after an edit of its file, although its name is the same."""
    code = "from unetpipe import register\n\n\n@register('preprocessing', 'test_scaled')\ndef scaled():\n"
    code += "    return lambda data: {'image': data['image'] * 2}\n"
    config = PreprocessConfig.model_validate(
        {
            "dataset": balls,
            "out": tmp_path / "work",
            "preview": False,
            "preprocessing_step": ["test_scaled"],
            "extension": [str(tmp_path / "lab.py")],
        }
    )
    for text, written in ((code, 6), (code, 0), (code.replace("* 2", "* 3"), 6)):
        (tmp_path / "lab.py").write_text(text)
        assert preprocess(config).written == written


def test_the_code_of_a_step_stays_the_same_from_cases_to_labels(balls: Path, tmp_path: Path, logged: list[str]) -> None:
    """Training refuses cases of other code than that which will prepare its held-out cases; inference warns."""
    code = "from unetpipe import register\n\n\n@register('preprocessing', 'test_doubled')\ndef doubled():\n"
    code += "    return lambda data: {'image': data['image'] * 2}\n"
    work, lab = tmp_path / "work", tmp_path / "lab.py"
    lab.write_text(code)
    named = {"preprocessing_step": ("test_doubled",), "extension": (str(lab),)}
    preprocess(PreprocessConfig(dataset=balls, out=work, preview=False, folds=3, **named))
    config = TrainConfig(
        work=work, device="cpu", precision="fp32", epochs=1, iterations=1, tracking="none", extension=(str(lab),)
    )
    lab.write_text(code.replace("* 2", "* 3"))
    with pytest.raises(TrainingError, match="the file of a preprocessing step has changed since 6 cases"):
        train(config)
    lab.write_text(code)
    bundle = train(config).bundle
    scans = InferConfig(models=(bundle,), inputs=(balls / "imagesTr",), out=tmp_path / "out", device="cpu")
    scans = scans.model_copy(update={"extension": (str(lab),)})
    assert infer(scans).failed == {}
    assert not any("its labels may be wrong" in line for line in logged)
    lab.write_text(code.replace("* 2", "* 3"))
    with pytest.raises(UnetpipeError, match="of another model or of other options are there already"):
        infer(scans.model_copy(update={"skip_existing": True}))
    assert any("its labels may be wrong" in line for line in logged)


def test_a_step_that_is_not_known_stops_training_and_inference_before_any_work(balls: Path, tmp_path: Path) -> None:
    """Without the extension that registers it neither starts; the held-out cases would show it at the end only."""
    code = "from unetpipe import register\n\n\n@register('preprocessing', 'test_halved')\ndef halved():\n"
    (tmp_path / "lab.py").write_text(code + "    return lambda data: {'image': data['image'] / 2}\n")
    work, extension = tmp_path / "work", (str(tmp_path / "lab.py"),)
    named = {"preprocessing_step": ("test_halved",), "extension": extension}
    preprocess(PreprocessConfig(dataset=balls, out=work, preview=False, folds=3, **named))
    short = {"work": work, "device": "cpu", "epochs": 1, "iterations": 1, "tracking": "none"}
    bundle = train(TrainConfig(**short, extension=extension)).bundle
    del components._REGISTERED["preprocessing", "test_halved"]
    with pytest.raises(ComponentError, match=r"there is no preprocessing 'test_halved'.*--extension"):
        train(TrainConfig(**short, run_name="other"))
    assert not (work / "runs" / "other").exists()
    with pytest.raises(ComponentError, match="there is no preprocessing 'test_halved'"):
        infer(InferConfig(models=(bundle,), inputs=(balls / "imagesTr",), out=tmp_path / "labels", device="cpu"))
    assert not (tmp_path / "labels").exists()
