"""What a person declares about images and labels is followed from preprocessing to evaluation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.manifest import read_manifest
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.dataset.store import CaseStore
from unetpipe.errors import DatasetError
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_volume, write_image, write_labels
from unetpipe.imaging.geometry import Grid, Orientation
from unetpipe.stages.evaluate import evaluate
from unetpipe.stages.preprocess import PreprocessResult, preprocess
from unetpipe.stages.train import train
from unetpipe.training import held_out_prediction

GRID = Grid.of((24, 20, 16), np.diag([1.5, 1.5, 2.0, 1.0]))


def ct(seed: int) -> NDArray[np.int16]:
    """A body of 40 HU in noisy air, with an organ of 110 HU."""
    generator = np.random.default_rng(seed)
    image = generator.normal(-1000, 20, GRID.shape)
    left, back = generator.integers(1, 5, 2)
    image[left : left + 17, back : back + 14] = generator.normal(40, 20, (17, 14, 16))
    image[15:17, 12:14] = generator.normal(-100, 10, (2, 2, 16))
    for _ in range(12):
        i, j = generator.integers((0, 0), (20, 16))
        image[i : i + 4, j : j + 4] = generator.choice([-850, -100, 60, 150], p=[0.4, 0.2, 0.2, 0.2])
    image[7:15, 5:13] = generator.normal(40, 20, (8, 8, 16))
    image[8:14, 6:12, 4:12] += 70
    return np.rint(np.maximum(image, -1024)).astype(np.int16)


def organ() -> NDArray[np.uint8]:
    label = np.zeros(GRID.shape, np.uint8)
    label[8:14, 6:12, 4:12] = 1
    return label


def pairs(folder: Path, cases: int = 6) -> Path:
    """Images beside labels, which is a layout without a place for the modality."""
    for number in range(cases):
        write_image(folder / "images" / f"c{number}.nii.gz", ct(number)[None], GRID)
        write_labels(folder / "labels" / f"c{number}.nii.gz", organ(), GRID, {})
    return folder


def run(dataset: Path, **more: Any) -> PreprocessResult:
    return preprocess(PreprocessConfig(dataset=dataset, out=dataset.parent / "work", preview=False, **more))


def kinds(result: PreprocessResult) -> list[str]:
    return [one.kind for one in result.warnings]


def test_ct_that_nobody_declared(tmp_path: Path) -> None:
    """It is z-scored with a warning that names the option, and with the option normalised as CT without one."""
    dataset = pairs(tmp_path / "data")
    first = run(dataset)
    assert kinds(first) == ["undeclared_ct"]
    assert "--modality CT" in first.warnings[0].message
    assert read_plan(tmp_path / "work").normalization[0].scheme == "zscore"
    second = run(dataset, modality=("ct",))
    assert kinds(second) == []
    assert second.written == 6
    assert read_plan(tmp_path / "work").normalization[0].scheme == "ct"
    assert read_manifest(tmp_path / "work").modalities == ("CT",)
    assert kinds(run(dataset, modality=("MR",))) == []


@pytest.mark.parametrize(("modality", "scheme"), [("CT", "ct"), ("MR", "zscore")])
def test_dicom_says_what_it_is(tmp_path: Path, modality: str, scheme: str) -> None:
    """The modality in the headers of series is taken, whatever intensities look like."""
    for number in range(5):
        folder = tmp_path / "data" / "images" / f"c{number}"
        write_series(folder, ct(number), GRID, modality=modality, seed=number)
        grid = read_volume(folder).grid
        write_labels(tmp_path / "data" / "labels" / f"c{number}.nii.gz", turned_to(grid, organ()), grid, {})
    result = run(tmp_path / "data")
    assert kinds(result) == []
    assert read_plan(tmp_path / "work").normalization[0].scheme == scheme


def turned_to(grid: Grid, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A label of `GRID` in the axis order in which a series was read."""
    from unetpipe.imaging.alignment import aligned
    from unetpipe.imaging.volume import Volume

    placed: NDArray[np.uint8] = aligned(Volume(label[None], GRID), grid).array[0]
    return placed


def test_a_list_says_what_it_is(tmp_path: Path) -> None:
    """The column `modality` of a list is taken, and --modality wins over it."""
    dataset = pairs(tmp_path / "data")
    rows = [f"c{n},images/c{n}.nii.gz,labels/c{n}.nii.gz,CT" for n in range(6)]
    table = dataset / "cases.csv"
    table.write_text("\n".join(["id,image,label,modality", *rows]))
    config = PreprocessConfig(dataset=table, out=tmp_path / "work", preview=False)
    preprocess(config)
    assert read_plan(tmp_path / "work").normalization[0].scheme == "ct"
    preprocess(config.model_copy(update={"modality": ("MR",)}))
    assert read_plan(tmp_path / "work").normalization[0].scheme == "zscore"


def test_air_keeps_its_images(tmp_path: Path) -> None:
    """A structure of air at -1024 HU differs from what is around it in what is stored, and a warning says why."""
    dataset = pairs(tmp_path / "data", cases=0)
    for number in range(5):
        image, label = ct(number), organ()
        image[label == 1] = -1024
        write_image(dataset / "images" / f"c{number}.nii.gz", image[None], GRID)
        write_labels(dataset / "labels" / f"c{number}.nii.gz", label, GRID, {})
    assert kinds(run(dataset, modality=("CT",))) == ["flat_window"]
    store = CaseStore(tmp_path / "work", "3d_fullres")
    for case in store.ids:
        image, label = store.load(case).astype(np.float32)
        assert image[7, 5:13, 6:10].mean() - image[label == 1].mean() > 1


def antialiased(dataset: Path) -> None:
    """Give every label map edges of values that no class has."""
    for number, path in enumerate(sorted((dataset / "labels").iterdir())):
        label = organ() * np.uint8(127)
        label[14, 6:12, 4:12] = 255
        label[8, 6 + number % 3, 4] = (128, 130, 126)[number % 3]
        label[14, 6, 4] = 233 + number
        write_labels(path, label, GRID, {})


def test_values_of_blurred_edges_are_reported_and_merged(tmp_path: Path) -> None:
    """A handful of voxels is no class: a warning names their values, and --labels makes classes of ranges."""
    dataset = pairs(tmp_path / "data")
    antialiased(dataset)
    found = run(dataset)
    assert "rare_class" in kinds(found)
    message = next(one.message for one in found.warnings if one.kind == "rare_class")
    assert "128 in 2 cases, 1 voxel at most" in message
    assert "--labels" in message
    assert len(found.labels) > 4

    labels = {"myelin": "126-130", "axon": "255,233-254"}
    merged = run(dataset, labels=labels)
    assert "rare_class" not in kinds(merged)
    assert merged.labels == ("background", "myelin", "axon")
    assert (merged.written, merged.reused) == (6, 0)
    assert run(dataset, labels=labels).reused == 6
    store = CaseStore(tmp_path / "work", "3d_fullres")
    for case in store.ids:
        assert store.record(case).class_voxels == (24 * 20 * 16 - 7 * 6 * 8, 6 * 6 * 8, 6 * 8)


def test_a_value_that_is_no_class_names_the_way_on(tmp_path: Path) -> None:
    """Masks of 0 and 255 where 0 and 1 are declared are refused with what would say that they are the same."""
    dataset = pairs(tmp_path / "data")
    for path in (dataset / "labels").iterdir():
        write_labels(path, organ() * np.uint8(255), GRID, {})
    declared = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "liver": 1},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (dataset / "images").rename(dataset / "imagesTr")
    (dataset / "labels").rename(dataset / "labelsTr")
    for path in sorted((dataset / "imagesTr").iterdir()):
        path.rename(path.with_name(path.name.replace(".nii.gz", "_0000.nii.gz")))
    (dataset / "dataset.json").write_text(json.dumps(declared))
    with pytest.raises(DatasetError, match=r"unknown values 255 .*--labels liver=1,255 says so"):
        run(dataset)
    assert run(dataset, labels={"liver": "1,255"}).labels == ("background", "liver")


@pytest.mark.slow
def test_declarations_reach_training_and_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged values, labels in another axis order and adopted affines count alike for the held-out cases of training
    and for evaluate: predictions equal to the references have Dice 1, and a fold's figures are those of evaluate.
    """
    dataset, order = pairs(tmp_path / "data"), Orientation(axes=(2, 0, 1), flips=(True, False, True))
    antialiased(dataset)
    for number, path in enumerate(sorted((dataset / "labels").iterdir())):
        label = read_volume(path).array[0]
        if number % 3 == 1:
            write_labels(path, order.to_ras(label), GRID.turned(order), {})
        elif number % 3 == 2:
            write_labels(path, label, Grid.of(GRID.shape, np.diag([-1.5, -1.5, 2.0, 1.0])), {})
    run(dataset, labels={"myelin": "126-130", "axon": "255,233-254"}, fix_affine=True, folds=2)
    work = tmp_path / "work"
    plan = yaml.safe_load((work / "plan.yaml").read_text())
    plan["configurations"]["3d_fullres"] |= {
        "features": [4, 8, 8][: len(plan["configurations"]["3d_fullres"]["features"])]
    }
    (work / "plan.yaml").write_text(yaml.safe_dump(plan))
    monkeypatch.setattr(held_out_prediction, "classes_to_reduce", lambda _gains: [])
    result = train(TrainConfig(work=work, device="cpu", precision="fp32", epochs=1, iterations=2))

    for number in range(6):
        label = np.where(organ() == 1, 127, 0).astype(np.uint8)
        label[14, 6:12, 4:12] = 255
        write_labels(tmp_path / "perfect" / f"c{number}.nii.gz", label, GRID, {})
    perfect = evaluate(EvaluateConfig(predictions=(tmp_path / "perfect",), work=work, out=tmp_path / "a"))
    assert [(row.name, row.dice) for row in perfect.classes] == [("myelin", 1), ("axon", 1)]
    validated = evaluate(
        EvaluateConfig(predictions=(result.bundle / "validation",), work=work, fold=0, out=tmp_path / "b", report=False)
    )
    for row in validated.classes:
        assert row.dice == pytest.approx(result.dice[row.name] or 0, abs=1e-3)
