"""From a dataset to a work folder: what is there, that it is not made twice, and that a kill leaves no trace."""

import json
import os
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.dataset.folds import read_folds
from unetpipe.dataset.manifest import read_manifest
from unetpipe.dataset.phantom import write_phantom_dataset
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.dataset.store import CaseStore
from unetpipe.dataset.training_set import read_training_set
from unetpipe.errors import DatasetError, PlanError, TrainingError
from unetpipe.imaging.files import read_volume, write_image, write_labels
from unetpipe.imaging.geometry import Grid, Orientation
from unetpipe.progress import SilentProgress
from unetpipe.stages.evaluate import evaluate
from unetpipe.stages.preprocess import preprocess

DOCUMENTS = {"manifest.json", "fingerprint.json", "plan.yaml", "folds.json", "checks.json", "preview.html", "cases"}


def write_small(folder: Path, cases: int = 6, seed: int = 0) -> Path:
    """A Decathlon folder of small noisy boxes."""
    generator = np.random.default_rng(seed)
    grid = Grid.of((24, 20, 16), np.diag([-1.5, 1.5, 2.0, 1.0]))
    training = []
    for number in range(cases):
        name = f"case_{number}.nii.gz"
        label = np.zeros(grid.shape, dtype=np.uint8)
        label[6:12, 5:15, 4:12] = 1
        label[14:20, 5:15, 4:12] = 2
        image = generator.normal(100, 10, grid.shape) + 30 * label
        write_image(folder / "imagesTr" / name, image.astype(np.float32)[None], grid)
        write_labels(folder / "labelsTr" / name, label, grid, {})
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    labels = {"0": "background", "1": "one", "2": "two"}
    declared = {"name": "Small", "modality": {"0": "MRI"}, "labels": labels, "training": training}
    (folder / "dataset.json").write_text(json.dumps(declared))
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_small(tmp_path / "small")


def contents(work: Path) -> dict[str, bytes]:
    return {str(path.relative_to(work)): path.read_bytes() for path in sorted(work.rglob("*")) if path.is_file()}


def times(work: Path) -> dict[str, int]:
    return {str(path.relative_to(work)): path.stat().st_mtime_ns for path in sorted(work.rglob("*")) if path.is_file()}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_work_folder(small: Path, tmp_path: Path) -> None:
    """Everything that training needs is there, and nothing else."""
    work = tmp_path / "work"
    result = preprocess(PreprocessConfig(dataset=small, out=work))
    assert (result.cases, result.written, result.reused, result.configuration) == (6, 6, 0, "3d_fullres")
    assert {path.name for path in work.iterdir()} == DOCUMENTS
    manifest, plan, folds = read_manifest(work), read_plan(work), read_folds(work)
    store = CaseStore(work, plan.default)
    assert store.ids == tuple(case.id for case in manifest.cases)
    assert len(folds.folds) == 5
    chosen = plan.configurations[plan.default]
    assert chosen.spacing_mm == (1.5, 1.5, 2.0)
    array = store.load("case_3")
    assert array.shape == (2, 24, 20, 16)
    assert array.dtype == np.float16
    # stored right to left: RAS+ order is the reverse of the file's
    source = read_volume(small / "imagesTr" / "case_3.nii.gz").array[0][::-1].astype(np.float64)
    np.testing.assert_allclose(array[0], (source - source.mean()) / source.std(), atol=5e-3)
    np.testing.assert_array_equal(array[1], read_volume(small / "labelsTr" / "case_3.nii.gz").array[0][::-1])


def test_phantom_with_dicom_and_orientations(tmp_path: Path) -> None:
    """Oblique scans, flipped ones and DICOM series all come out in RAS+ with the anatomy in place."""
    write_phantom_dataset(tmp_path / "phantom", cases=5, seed=2)
    work = tmp_path / "work"
    result = preprocess(PreprocessConfig(dataset=tmp_path / "phantom", out=work))
    assert result.labels == ("background", "liver", "spleen", "kidneys", "spine")
    store = CaseStore(work, "3d_fullres")
    for case in store.ids:
        record = store.record(case)
        liver, spleen = (np.mean(record.coordinates[value], axis=0) for value in ("1", "2"))
        assert liver[0] > spleen[0]
        np.testing.assert_allclose(
            record.spacing_mm, read_plan(work).configurations["3d_fullres"].spacing_mm, rtol=0.02
        )


def test_cases_of_any_name(small: Path, tmp_path: Path) -> None:
    """Whatever files are called, their cases are stored, and their labels are found again as predictions."""
    names = ["Fall 1 (prä)", "scan 1", "scan_1", "Scan_1", "study.v2 #3", "患者" * 30]
    for folder, part in (("imagesTr", "images"), ("labelsTr", "labels")):
        (small / folder).rename(small / part)
        for number, name in enumerate(names):
            (small / part / f"case_{number}.nii.gz").rename(small / part / f"{name}.nii.gz")
    (small / "dataset.json").unlink()
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=small, out=work))
    assert CaseStore(work, "3d_fullres").ids == tuple(sorted(names))
    folded = {path.name.casefold() for path in (work / "cases" / "3d_fullres").iterdir()}
    assert len(folded) == 2 * len(names)
    for fold, others in ((None, 0), (0, 4)):
        config = EvaluateConfig(predictions=(small / "labels",), work=work, out=tmp_path / "out", fold=fold)
        result = evaluate(config)
        assert (result.missing, result.passed, len(result.extra)) == ((), True, others)
        assert [row.dice for row in result.classes] == [1, 1]


def test_second_run_does_nothing(small: Path, tmp_path: Path) -> None:
    """A run over an unchanged dataset touches no file, even when time stamps of the input have changed."""
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=small, out=work))
    before = times(work)
    for path in small.rglob("*.nii.gz"):
        os.utime(path, (0, 0))
    result = preprocess(PreprocessConfig(dataset=small, out=work))
    assert (result.written, result.reused) == (0, 6)
    assert times(work) == before


def test_changed_image_is_redone_alone(small: Path, tmp_path: Path) -> None:
    """Only the case whose file changed is made again, as long as the plan stays the same."""
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=small, out=work, preview=False))
    before = times(work)
    volume = read_volume(small / "imagesTr" / "case_2.nii.gz")
    write_image(small / "imagesTr" / "case_2.nii.gz", volume.array + 1, volume.grid)
    result = preprocess(PreprocessConfig(dataset=small, out=work, preview=False))
    assert result.written == 1
    redone = {name for name in changed(before, times(work)) if name.startswith("cases/")}
    assert redone == {"cases/3d_fullres/case_2.b2nd", "cases/3d_fullres/case_2.json"}
    fresh = tmp_path / "fresh"
    preprocess(PreprocessConfig(dataset=small, out=fresh, preview=False))
    assert contents(work) == contents(fresh)


def test_runs_of_other_files_are_told_of(small: Path, tmp_path: Path, logged: list[str]) -> None:
    """Two cases that exchange their files are others under the same names, by which predictions are evaluated."""
    config = PreprocessConfig(dataset=small, out=tmp_path / "work", preview=False)
    preprocess(config)
    for exchanged in ((2, 3), (4, 5)):
        for folder in ("imagesTr", "labelsTr"):
            first, second = (small / folder / f"case_{number}.nii.gz" for number in exchanged)
            kept = first.read_bytes()
            first.write_bytes(second.read_bytes())
            second.write_bytes(kept)
        logged.clear()
        preprocess(config)
        told = [line for line in logged if "earlier runs" in line]
        if exchanged == (2, 3):
            assert told == []  # as there are none
            (tmp_path / "work" / "runs" / "default" / "fold_0").mkdir(parents=True)
    assert told == [
        "2 cases have other files or label values than before, such as case_4: earlier runs are of what was there"
    ]


def test_removed_case_goes(small: Path, tmp_path: Path) -> None:
    """A case that left the dataset leaves the work folder, and the others stay."""
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=small, out=work))
    content = json.loads((small / "dataset.json").read_text())
    del content["training"][5]
    (small / "dataset.json").write_text(json.dumps(content))
    result = preprocess(PreprocessConfig(dataset=small, out=work))
    assert (result.cases, result.written) == (5, 0)
    assert CaseStore(work, "3d_fullres").ids == tuple(f"case_{number}" for number in range(5))


def test_edited_plan_is_used(small: Path, tmp_path: Path, logged: list[str]) -> None:
    """An edit of the plan survives, and re-does exactly what it touches."""
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=small, out=work))
    text = (work / "plan.yaml").read_text()
    head, tail = text.split('"2d":')
    (work / "plan.yaml").write_text(head + '"2d":' + tail.replace("spacing_mm: [1.5", "spacing_mm: [3.0"))
    assert preprocess(PreprocessConfig(dataset=small, out=work)).written == 0
    (work / "plan.yaml").write_text(text.replace("spacing_mm: [1.5", "spacing_mm: [3.0", 1))
    logged.clear()
    result = preprocess(PreprocessConfig(dataset=small, out=work))
    assert (result.written, result.spacing_mm) == (6, (3.0, 1.5, 2.0))
    assert CaseStore(work, "3d_fullres").load("case_0").shape == (2, 12, 20, 16)
    assert logged == ["plan.yaml was edited: it is used as it stands"]
    # the dataset changes under an edited plan: the edit stays, and the run says so
    volume = read_volume(small / "imagesTr" / "case_2.nii.gz")
    write_image(small / "imagesTr" / "case_2.nii.gz", volume.array + 1, volume.grid)
    result = preprocess(PreprocessConfig(dataset=small, out=work))
    assert (result.written, result.spacing_mm) == (1, (3.0, 1.5, 2.0))
    assert "have changed since plan.yaml was made" in logged[-1]


def test_plan_that_does_not_fit(small: Path, tmp_path: Path) -> None:
    """An edited plan that contradicts the dataset is refused before anything is written."""
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=small, out=work))
    text = (work / "plan.yaml").read_text()
    (work / "plan.yaml").write_text(text.replace("  - {scheme: zscore}", "  - {scheme: zscore}\n" * 2))
    before = times(work)
    with pytest.raises(PlanError, match=r"plan\.yaml: normalization has 2 channels, the dataset 1"):
        preprocess(PreprocessConfig(dataset=small, out=work))
    assert times(work) == before


def test_edited_folds_are_kept(small: Path, tmp_path: Path) -> None:
    """Folds that a person changed stay as long as they split the same cases."""
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=small, out=work))
    content = json.loads((work / "folds.json").read_text())
    content["folds"].reverse()
    (work / "folds.json").write_text(json.dumps(content))
    preprocess(PreprocessConfig(dataset=small, out=work))
    assert json.loads((work / "folds.json").read_text()) == content
    preprocess(PreprocessConfig(dataset=small, out=work, folds=3))
    assert len(read_folds(work).folds) == 3
    preprocess(PreprocessConfig(dataset=small, out=work, configuration="2d"))
    assert len(read_folds(work).folds) == 3


def test_a_single_split_of_a_person_is_kept(small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One fold is enough if every case is in it; what takes its place when it is asked for is said with the reason."""
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=small, out=work))
    content = json.loads((work / "folds.json").read_text())
    content["folds"] = content["folds"][:1]
    (work / "folds.json").write_text(json.dumps(content))
    preprocess(PreprocessConfig(dataset=small, out=work))
    assert json.loads((work / "folds.json").read_text()) == content
    assert caplog.messages == []
    preprocess(PreprocessConfig(dataset=small, out=work, folds=5))
    assert len(read_folds(work).folds) == 5
    assert "folds.json is made anew, since it had 1 fold and 5 are asked for" in caplog.text
    content["folds"][0]["train"] = content["folds"][0]["train"][1:]
    (work / "folds.json").write_text(json.dumps(content))
    preprocess(PreprocessConfig(dataset=small, out=work))
    assert len(read_folds(work).folds) == 5
    assert "since its cases are not those of the dataset" in caplog.text


def test_folds_of_a_person_may_be_more_than_random_ones_could(small: Path, tmp_path: Path) -> None:
    """Of as many cases as there are, any number of folds is kept; five random ones might not even be possible."""
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=small, out=work))
    content = json.loads((work / "folds.json").read_text())
    content["folds"] *= 2
    assert len(content["folds"]) > len(read_manifest(work).cases)
    (work / "folds.json").write_text(json.dumps(content))
    preprocess(PreprocessConfig(dataset=small, out=work))
    assert json.loads((work / "folds.json").read_text()) == content


def test_other_configurations(small: Path, tmp_path: Path) -> None:
    """Any configuration of the plan can be prepared beside the default one; an unknown one is refused."""
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=small, out=work))
    assert preprocess(PreprocessConfig(dataset=small, out=work, configuration="2d")).written == 6
    assert {path.name for path in (work / "cases").iterdir()} == {"2d", "3d_fullres"}
    with pytest.raises(PlanError, match="no configuration '4d', only 3d_fullres, 2d"):
        preprocess(PreprocessConfig(dataset=small, out=work, configuration="4d"))


def test_what_has_changed_is_gone_from_other_configurations(small: Path, tmp_path: Path) -> None:
    """A label that was corrected, or classes in another order: no configuration is trained on what was before."""
    work = tmp_path / "work"
    for configuration in ("2d", "3d_fullres"):
        preprocess(PreprocessConfig(dataset=small, out=work, configuration=configuration))
    label = next(path for path in sorted((small / "labelsTr").iterdir()) if path.name.endswith(".nii.gz"))
    image = nib.load(label)
    values = np.asarray(image.dataobj).copy()
    values[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(values, image.affine, image.header), label)
    preprocess(PreprocessConfig(dataset=small, out=work))
    case = label.name.removesuffix(".nii.gz")
    assert case in CaseStore(work, "3d_fullres").ids
    assert len(CaseStore(work, "2d").ids) == 5
    assert case not in CaseStore(work, "2d").ids
    with pytest.raises(TrainingError, match=f"1 case is .* such as {case}: run unetpipe preprocess with --conf.* 2d"):
        read_training_set(work, 0, "2d")
    plan = yaml.safe_load((work / "plan.yaml").read_text())
    plan["configurations"]["2d"]["spacing_mm"][0] *= 2
    (work / "plan.yaml").write_text(yaml.safe_dump(plan))
    preprocess(PreprocessConfig(dataset=small, out=work))
    assert len(CaseStore(work, "2d").ids) == 5, "they are as the files are, whatever the plan makes of others"


def test_a_mere_check_writes_nothing(small: Path, tmp_path: Path) -> None:
    """A mere check leaves no folder behind, and needs neither torch nor monai."""
    result = preprocess(PreprocessConfig(dataset=small, check=True))
    assert (result.cases, result.work) == (6, None)
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    with pytest.raises(ValidationError, match="out\n  Field required"):
        PreprocessConfig(dataset=small)
    code = (
        "import sys; from pathlib import Path; from unetpipe.config.preprocess import PreprocessConfig;"
        "from unetpipe.stages.preprocess import preprocess;"
        f"preprocess(PreprocessConfig(dataset=Path({str(small)!r}), check=True));"
        "assert not {'torch', 'monai', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_faults_leave_no_work_folder(small: Path, tmp_path: Path) -> None:
    """Structural faults and faults inside files come together, and nothing is written."""
    work = tmp_path / "work"
    (small / "labelsTr" / "case_0.nii.gz").unlink()
    (small / "imagesTr" / "case_1.nii.gz").write_bytes(b"no image")
    volume = read_volume(small / "imagesTr" / "case_2.nii.gz")
    volume.array[0, 3, 3, 3] = np.inf
    write_image(small / "imagesTr" / "case_2.nii.gz", volume.array, volume.grid)
    write_labels(small / "labelsTr" / "case_3.nii.gz", np.zeros(volume.grid.shape, dtype=np.uint8), volume.grid, {})
    with pytest.raises(DatasetError) as caught:
        preprocess(PreprocessConfig(dataset=small, out=work))
    assert [(fault.case, fault.kind, fault.severity) for fault in caught.value.faults] == [
        ("case_0", "missing_label", "error"),
        ("case_1", "unreadable", "error"),
        ("case_2", "non_finite", "error"),
        ("case_3", "empty_label", "warning"),
    ]
    assert not work.exists()


def test_command_line(small: Path, tmp_path: Path) -> None:
    """Every fault is on a line of its own, and the exit code is 1."""
    (small / "labelsTr" / "case_0.nii.gz").unlink()
    (small / "imagesTr" / "case_1.nii.gz").write_bytes(b"no image")
    command = [sys.executable, "-m", "unetpipe", "preprocess", str(small), "--out", str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert [line.split()[:2] for line in done.stderr.splitlines()[-2:]] == [
        ["case_0", "missing_label"],
        ["case_1", "unreadable"],
    ]
    assert not (tmp_path / "work").exists()


def test_warnings_do_not_stop(small: Path, tmp_path: Path) -> None:
    """An empty label is reported in the result and in the preview, and the case is stored."""
    grid = read_volume(small / "labelsTr" / "case_3.nii.gz").grid
    write_labels(small / "labelsTr" / "case_3.nii.gz", np.zeros(grid.shape, dtype=np.uint8), grid, {})
    result = preprocess(PreprocessConfig(dataset=small, out=tmp_path / "work"))
    assert [(one.case, one.kind) for one in result.warnings] == [("case_3", "empty_label")]
    assert result.written == 6
    assert "background only" in (tmp_path / "work" / "preview.html").read_text()


def test_fix_affine(small: Path, tmp_path: Path) -> None:
    """A label that lies elsewhere is used voxel by voxel when asked for, even if its axes claim another direction."""
    sound = tmp_path / "sound"
    preprocess(PreprocessConfig(dataset=small, out=sound))
    path = small / "labelsTr" / "case_3.nii.gz"
    volume = read_volume(path)
    write_labels(path, volume.array[0], Grid.of(volume.grid.shape, np.diag([1.5, 1.5, 2.0, 1.0])), {})
    config = PreprocessConfig(dataset=small, out=tmp_path / "work")
    with pytest.raises(DatasetError, match="axes that run to RAS instead of LAS"):
        preprocess(config)
    result = preprocess(config.model_copy(update={"fix_affine": True}))
    assert [(one.case, one.kind) for one in result.warnings] == [("case_3", "affine_adopted")]
    arrays = [CaseStore(work, "3d_fullres").load("case_3") for work in (sound, tmp_path / "work")]
    np.testing.assert_array_equal(*arrays)


@pytest.mark.parametrize("degrees", [-135, -45, 45, 135])
def test_tilted_scans_keep_their_labels(tmp_path: Path, degrees: float) -> None:
    """Images, second channels and labels of planes at 45 degrees lie on each other, in whatever formats they are."""
    order = Orientation(axes=(1, 2, 0), flips=(False, True, False))
    combinations = product(range(3), (".nrrd", ".mha"), (".nii.gz", ".nrrd"))
    for case, (about, image_suffix, label_suffix) in enumerate(combinations):
        angles = [np.radians(degrees) if axis == about else 0.0 for axis in range(3)]
        grid = Grid.of((20, 18, 16), nib.affines.from_matvec(nib.eulerangles.euler2mat(*angles), (3, -70, 20)))
        label = np.zeros(grid.shape, np.uint8)
        label[3:9, 2:14, 5:12] = 1
        image = np.random.default_rng(case).normal(0, 1, grid.shape).astype(np.float32) + 50 * label
        write_image(tmp_path / "data" / "images" / f"c{case}_0000{image_suffix}", image[None], grid)
        write_image(
            tmp_path / "data" / "images" / f"c{case}_0001.nii.gz", order.to_ras(image)[None], grid.turned(order)
        )
        write_labels(tmp_path / "data" / "labels" / f"c{case}{label_suffix}", label, grid, {})
    preprocess(PreprocessConfig(dataset=tmp_path / "data", out=tmp_path / "work", preview=False))
    store = CaseStore(tmp_path / "work", "3d_fullres")
    for name in store.ids:
        first, second, stored = store.load(name).astype(np.float32)
        assert first[stored == 1].min() > first[stored == 0].max()
        np.testing.assert_array_equal(first, second)


def test_labels_with_gaps_and_ignore(tmp_path: Path) -> None:
    """Values 3 and 7 become classes 1 and 2; ignored voxels become -1."""
    folder = tmp_path / "nnunet"
    grid = Grid.of((20, 20, 20), np.eye(4))
    label = np.zeros(grid.shape, dtype=np.uint8)
    label[2:6, 4:16, 4:16], label[8:12, 4:16, 4:16], label[14:18] = 7, 3, 255
    for number in range(5):
        image = np.random.default_rng(number).normal(10, 1, (1, *grid.shape)).astype(np.float32)
        write_image(folder / "imagesTr" / f"c{number}_0000.nii.gz", image, grid)
        write_labels(folder / "labelsTr" / f"c{number}.nii.gz", label, grid, {})
    declared = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "seven": 7, "three": 3, "ignore": 255},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(declared))
    result = preprocess(PreprocessConfig(dataset=folder, out=tmp_path / "work"))
    assert result.labels == ("background", "three", "seven")
    stored = CaseStore(tmp_path / "work", "3d_fullres").load("c0")[-1]
    np.testing.assert_array_equal(stored == 1, label == 3)
    np.testing.assert_array_equal(stored == 2, label == 7)
    np.testing.assert_array_equal(stored == -1, label == 255)
    assert read_plan(tmp_path / "work").normalization[0].scheme == "ct"


def test_undeclared_labels(tmp_path: Path) -> None:
    """Classes of folder pairs are the values that occur, and the manifest says so."""
    shutil.copytree(write_small(tmp_path / "small") / "imagesTr", tmp_path / "pairs" / "images")
    shutil.copytree(tmp_path / "small" / "labelsTr", tmp_path / "pairs" / "labels")
    preprocess(PreprocessConfig(dataset=tmp_path / "pairs", out=tmp_path / "work"))
    names = [(label.name, label.value) for label in read_manifest(tmp_path / "work").labels]
    assert names == [("background", 0), ("label_1", 1), ("label_2", 2)]


def test_colour_pictures(tmp_path: Path) -> None:
    """2-D RGB pictures take the same road with two axes."""
    grid = Grid.of((64, 48), np.eye(4))
    for number in range(6):
        generator = np.random.default_rng(number)
        label = np.zeros(grid.shape, dtype=np.uint8)
        label[10:30, 12:40] = 255
        image = generator.integers(0, 200, (3, *grid.shape)).astype(np.uint8)
        write_image(tmp_path / "set" / "images" / f"p{number}.png", image, grid)
        write_labels(tmp_path / "set" / "labels" / f"p{number}.png", label, grid, {})
    result = preprocess(PreprocessConfig(dataset=tmp_path / "set", out=tmp_path / "work"))
    assert (result.configuration, result.labels) == ("2d", ("background", "label_255"))
    array = CaseStore(tmp_path / "work", "2d").load("p0")
    assert array.shape == (4, 64, 48)
    np.testing.assert_array_equal(array[-1, 10:30, 12:40], 1)


def test_memory_limit_changes_nothing(small: Path, tmp_path: Path) -> None:
    """With one worker, many, or hardly any memory the bytes are the same."""
    variants = [{"workers": 1}, {"workers": 4}, {"max_memory_gb": 1e-6}]
    for number, options in enumerate(variants):
        preprocess(PreprocessConfig(dataset=small, out=tmp_path / str(number), **options))
    first, *others = (contents(tmp_path / str(number)) for number in range(len(variants)))
    assert all(other == first for other in others)


def test_interrupt(small: Path, tmp_path: Path) -> None:
    """Ctrl-C ends the run with no half-written file, and the next run completes it."""

    class Interrupting(SilentProgress):
        def task(self, name: str, total: int):  # type: ignore[no-untyped-def]
            if name == "preprocessing":
                raise KeyboardInterrupt
            return super().task(name, total)

    work = tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        preprocess(PreprocessConfig(dataset=small, out=work), Interrupting())
    assert not list(work.rglob(".tmp-*"))
    assert preprocess(PreprocessConfig(dataset=small, out=work)).cases == 6
