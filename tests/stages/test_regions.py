"""Labels that overlap, from an nnU-Net folder to the Dice of each region."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.infer import InferConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.manifest import read_manifest
from unetpipe.errors import DatasetError
from unetpipe.stages.evaluate import evaluate
from unetpipe.stages.infer import infer
from unetpipe.stages.preprocess import preprocess
from unetpipe.stages.train import train

REGIONS = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}


def write_dataset(folder: Path, labels: dict[str, object], order: object) -> Path:
    """Balls with a brighter core; some voxels of each label are to be ignored."""
    rng = np.random.default_rng(0)
    axes = np.stack(np.meshgrid(*[np.arange(20)] * 3, indexing="ij"), axis=-1)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in range(5):
        distance = np.linalg.norm(axes - rng.uniform(8, 12, 3), axis=-1)
        label = (distance < 6).astype(np.uint8) + (distance < 3.5)
        image = rng.normal(100, 5, label.shape) + 60 * label
        label[:2] = 3
        for part, array, suffix in (("imagesTr", image.astype(np.float32), "_0000"), ("labelsTr", label, "")):
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / part / f"ball_{case}{suffix}.nii.gz")
    dataset = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 5, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(dataset | ({"regions_class_order": order} if order else {})))
    return folder


@pytest.mark.slow
def test_from_dataset_to_dice(tmp_path: Path) -> None:
    """Regions are kept, learned with sigmoids, written in their order, and scored each as the values that it holds."""
    data = write_dataset(tmp_path / "data", REGIONS, [1, 2])
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=data, out=work, preview=False))
    manifest = read_manifest(work)
    assert [(region.name, region.values, region.written) for region in manifest.regions] == [
        ("whole", (1, 2), 1),
        ("core", (2,), 2),
    ]
    assert [label.name for label in manifest.labels] == ["background", "value 1", "core"]
    assert manifest.ignore_value == 3
    plan = yaml.safe_load((work / "plan.yaml").read_text())
    plan["configurations"]["3d_fullres"]["features"] = [8, 16, 32][
        : len(plan["configurations"]["3d_fullres"]["strides"])
    ]
    plan["configurations"]["3d_fullres"]["batch_size"] = 2
    (work / "plan.yaml").write_text(yaml.safe_dump(plan))
    result = train(TrainConfig(work=work, device="cpu", epochs=5, iterations=24))
    assert result.dice.keys() == {"whole", "core"}
    assert min(dice or 0 for dice in result.dice.values()) > 0.7

    held_out = json.loads((work / "folds.json").read_text())["folds"][0]["validation"]
    scans = tuple(data / "imagesTr" / f"{case}_0000.nii.gz" for case in held_out)
    infer(InferConfig(models=(result.bundle,), inputs=scans, out=tmp_path / "labels", device="cpu", save_classes=True))
    records = json.loads((tmp_path / "labels" / "predictions.json").read_text())["cases"]
    for record in records:
        labels = np.asarray(nib.load(tmp_path / "labels" / record["output"]).dataobj)
        assert record["volumes_ml"] == pytest.approx(
            {"whole": (labels > 0).sum() / 1e3, "core": (labels == 2).sum() / 1e3}
        )
        whole = np.asarray(nib.load(tmp_path / "labels" / "classes" / record["id"] / "1_whole.nii.gz").dataobj)
        assert np.array_equal(whole, labels > 0)
    for path in (tmp_path / "labels").glob("*_0000.nii.gz"):
        path.rename(path.with_name(path.name.replace("_0000", "")))
    predicted = np.asarray(nib.load(tmp_path / "labels" / f"{held_out[0]}.nii.gz").dataobj)
    assert set(np.unique(predicted)) == {0, 1, 2}

    done = evaluate(
        EvaluateConfig(predictions=(tmp_path / "labels",), work=work, out=tmp_path / "report", fold=0, report=False)
    )
    assert done is not None
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    measured = {row["name"]: row["figures"]["dice"]["mean"] for row in summary["models"][0]["classes"]}
    for name, values in (("whole", (1, 2)), ("core", (2,))):
        dice = []
        for case in held_out:
            ours = np.asarray(nib.load(tmp_path / "labels" / f"{case}.nii.gz").dataobj)
            theirs = np.asarray(nib.load(data / "labelsTr" / f"{case}.nii.gz").dataobj)
            a, b = (np.isin(one, values)[theirs != 3] for one in (ours, theirs))
            dice.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert measured[name] == pytest.approx(np.mean(dice), abs=1e-6)
        assert result.dice[name] == pytest.approx(np.mean(dice), abs=0.05)  # all in float32 or bfloat16


@pytest.mark.parametrize(
    ("labels", "order", "message"),
    [
        (REGIONS, None, "'regions_class_order' should have 2 different values of those in regions, got None"),
        (REGIONS, [1], "should have 2 different values"),
        (REGIONS, [1, 1], "should have 2 different values"),
        (REGIONS, [1, 5], "of those in regions, 1, 2, got"),
        ({"background": 0, "whole": [1, 2]}, [1], "a single region, whole"),
        ({"background": 0, "whole": [0, 1], "core": [1]}, [1, 2], "contains 0"),
        ({"background": 0, "whole": [1, "two"]}, [1], "should have an integer value, or a list of them"),
    ],
)
def test_regions_that_do_not_add_up(tmp_path: Path, labels: dict[str, object], order: object, message: str) -> None:
    """Told with what was expected, before any work."""
    data = write_dataset(tmp_path / "data", labels, order)
    with pytest.raises(DatasetError) as error:
        preprocess(PreprocessConfig(dataset=data, out=tmp_path / "work", preview=False))
    assert message in str(error.value)
