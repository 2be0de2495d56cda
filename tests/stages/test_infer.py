"""Scans in, label files out: formats, failures, resuming, shards."""

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from unetpipe import Predictor, infer
from unetpipe.cli.run import FAILED, exit_code
from unetpipe.config.infer import InferConfig
from unetpipe.documents import write_document
from unetpipe.errors import BundleError, DatasetError, DeviceError, UnetpipeError
from unetpipe.imaging.files import read_volume, write_image
from unetpipe.imaging.geometry import Grid, Orientation, Unit
from unetpipe.inference.predictions import read_predictions
from unetpipe.inference.quality import ClassQuality, Quality

MakeBundle = Callable[..., Path]
OBLIQUE = np.array([[-0.9, 0.3, 0.0, 10.0], [0.3, 0.9, 0.2, -5.0], [0.05, -0.2, 1.4, 3.0], [0, 0, 0, 1]])


def write_scan(path: Path, shape: tuple[int, ...] = (20, 18, 17), channels: int = 1, seed: int = 0) -> Path:
    values = np.random.default_rng(seed).normal(100, 20, (channels, *shape)).astype(np.float32)
    affine = OBLIQUE if len(shape) == 3 else np.eye(4)
    if path.suffix in (".png", ".jpg"):
        values = values.clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, values, Grid.of(shape, affine))
    return path


def run(model: Path, *inputs: Path, **more: Any) -> Any:
    out = inputs[0].parent / "out"
    return infer(InferConfig(models=(model,), inputs=inputs, out=out, device="cpu", precision="fp32", **more))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_labels_lie_on_the_scans_grid(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """One file per scan in its own format and on its grid, equal to what the Predictor gives, names in the header."""
    model = make_bundle(values=(0, 4, 9))
    scans = [
        write_scan(tmp_path / "in" / name, seed=n) for n, name in enumerate(["a.nii.gz", "b.mha", "c.nrrd", "d.nii"])
    ]
    result = infer(
        InferConfig(models=(model,), inputs=(tmp_path / "in",), out=tmp_path / "out", device="cpu", precision="fp32")
    )
    assert (result.written, result.skipped, result.failed) == (4, 0, {})
    assert names_of(tmp_path / "out") == ["a.nii.gz", "b.mha", "c.nrrd", "d.nii", "predictions.json"]
    predictor = Predictor(model, device="cpu", precision="fp32")
    for scan in scans:
        source, labels = read_volume(scan), read_volume(tmp_path / "out" / scan.name)
        assert labels.grid.difference_mm(source.grid) < 1e-3
        assert labels.array.dtype == np.uint8
        np.testing.assert_array_equal(labels.array[0], predictor.predict(source.array, source.grid.matrix))
    header = nib.load(tmp_path / "out" / "a.nii.gz").header
    assert any(b"class 2" in extension.get_content() for extension in header.extensions)


def test_channels_pictures_and_lossy_formats(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Channel files make one scan; a JPEG's labels are a PNG."""
    for n in range(2):
        write_scan(tmp_path / "two" / f"x_{n:04d}.nii.gz", seed=n)
    assert run(make_bundle("two channels", channels=2), tmp_path / "two").written == 1
    assert (tmp_path / "out" / "x.nii.gz").is_file()
    rgb = make_bundle("rgb", patch=(16, 16), channels=3)
    write_scan(tmp_path / "photo.jpg", (30, 20), channels=3)
    assert run(rgb, tmp_path / "photo.jpg").failed == {}
    assert read_volume(tmp_path / "out" / "photo.png").grid.shape == (30, 20)


def test_a_dicom_series_is_a_scan(make_bundle: MakeBundle, shared_data: Path, tmp_path: Path) -> None:
    """A folder with a series gives one label map on the series' oblique grid, and is marked as one."""
    series = shared_data / "dicom" / "brain_t1_oblique"
    model = make_bundle(spacing_mm=(4.0, 4.0, 6.0))
    config = InferConfig(models=(model,), inputs=(series,), out=tmp_path / "out", device="cpu", precision="fp32")
    assert infer(config).failed == {}
    (path,) = (tmp_path / "out").glob("case-*.nii.gz")
    labels = read_volume(path)
    assert labels.grid.difference_mm(read_volume(series).grid) < 1e-2
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"][0]["dicom"] is True


def test_bad_scans_are_named_and_the_others_go_on(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Corrupt, empty, wrong and unfetched files in the middle fail with a reason and no folder in it; others go on."""
    folder = tmp_path / "in"
    for name in ("a", "c", "e", "g"):
        write_scan(folder / f"{name}.nii.gz")
    (folder / "b.nii.gz").write_bytes(b"\x1f\x8bnonsense")
    (folder / "d.nii.gz").touch()
    write_scan(folder / "f.nii.gz", channels=3)
    (folder / "h.zip").write_bytes(b"PK\3\4damaged")
    (folder / "i.nii.gz").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    result = run(make_bundle(), folder, case_ids="name")
    assert (result.written, exit_code(result)) == (4, FAILED)
    assert sorted(result.failed) == ["b", "d", "f", "h", "i"]
    assert "Git LFS" in result.failed["i"]
    assert "takes 1 channel" in result.failed["f"]
    assert all(str(tmp_path) not in reason for reason in result.failed.values())
    assert names_of(tmp_path / "out") == ["a.nii.gz", "c.nii.gz", "e.nii.gz", "g.nii.gz", "predictions.json"]
    cases = {case["id"]: case for case in json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"]}
    assert {name: case["status"] for name, case in cases.items()} == {
        **dict.fromkeys("aceg", "written"),
        **dict.fromkeys("bdfhi", "failed"),
    }
    assert str(tmp_path) not in (tmp_path / "out" / "predictions.json").read_text()


def test_voxels_that_are_no_numbers_are_counted(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """NaN and infinite voxels are found in the input and named, and the precision is not blamed."""
    for name, bad in (("nan", [np.nan]), ("both", [np.inf, np.nan, np.nan])):
        values = np.random.default_rng(0).normal(100, 20, (2, 20, 18, 17)).astype(np.float32)
        values[1, 0, 0, : len(bad)] = bad
        write_image(tmp_path / "in" / f"{name}.nii.gz", values, Grid.of(values.shape[1:], OBLIQUE))
    result = run(make_bundle("two channels", channels=2), tmp_path / "in")
    assert result.failed == {
        "nan": "channel channel 1: 1 voxel is NaN",
        "both": "channel channel 1: 2 voxels are NaN, 1 is infinite",
    }


def test_channels_that_lie_elsewhere(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """A channel in another axis order is the same scan; one that lies elsewhere needs the option that is named."""
    values = np.random.default_rng(0).normal(100, 20, (2, 20, 18, 17)).astype(np.float32)
    grid = Grid.of(values.shape[1:], OBLIQUE)
    order = Orientation(axes=(1, 2, 0), flips=(False, True, True))
    for name, other in (("a", grid), ("b", grid.turned(order)), ("c", Grid.of(grid.shape, np.eye(4)))):
        write_image(tmp_path / "in" / f"{name}_0000.nii.gz", values[:1], grid)
        second = order.to_ras(values[1]) if name == "b" else values[1]
        write_image(tmp_path / "in" / f"{name}_0001.nii.gz", second[None], other)
    model = make_bundle("two channels", channels=2)
    result = run(model, tmp_path / "in")
    assert list(result.failed) == ["c"]
    assert "--fix-affine" in result.failed["c"]
    assert run(model, tmp_path / "in", fix_affine=True).failed == {}
    first, second, third = (read_volume(tmp_path / "out" / f"{name}.nii.gz").array for name in "abc")
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)


def test_a_full_disk_fails_the_scan_only(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the writer names its scan; nothing hangs and no half file stays."""
    module = importlib.import_module("unetpipe.inference.outputs")
    write = module.write_labels

    def failing(path: Path, *rest: Any) -> None:
        if path.name.startswith("b"):
            raise OSError(28, "No space left on device", str(path))
        write(path, *rest)

    monkeypatch.setattr(module, "write_labels", failing)
    for name in "abc":
        write_scan(tmp_path / "in" / f"{name}.nii.gz")
    result = run(make_bundle(), tmp_path / "in")
    assert result.failed == {"b": "No space left on device"}
    assert names_of(tmp_path / "out") == ["a.nii.gz", "c.nii.gz", "predictions.json"]


def test_existing_labels_can_be_left_alone(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """With skip_existing only what is missing is made, and the manifest keeps what it knew of the rest."""
    model = make_bundle()
    for name in "abc":
        write_scan(tmp_path / "in" / f"{name}.nii.gz")
    run(model, tmp_path / "in")
    before = (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns
    (tmp_path / "out" / "b.nii.gz").unlink()
    result = run(model, tmp_path / "in", skip_existing=True)
    assert (result.written, result.skipped) == (1, 2)
    assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns == before
    cases = {case["id"]: case for case in json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"]}
    assert [cases[name]["status"] for name in "abc"] == ["existing", "written", "existing"]
    assert cases["a"]["volumes_ml"]


def test_existing_labels_of_another_model_are_not_taken_for_ones_own(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Nor those of other options: the manifest would credit them to what did not make them."""
    model, other = make_bundle(), make_bundle("other", seed=1)
    for name in "ab":
        write_scan(tmp_path / "in" / f"{name}.nii.gz")
    run(model, tmp_path / "in")
    before = contents(tmp_path / "out")
    for now, options in ((other, {}), (model, {"tta": True}), (model, {"step": 0.25}), (model, {"fix_affine": True})):
        with pytest.raises(UnetpipeError, match="of another model or of other options are there already, such as"):
            run(now, tmp_path / "in", skip_existing=True, **options)
        with pytest.raises(UnetpipeError, match="such as those of a:"):
            run(now, tmp_path / "in", skip_existing=True, shard="1/2", **options)
    assert contents(tmp_path / "out") == before
    assert run(other, tmp_path / "in").written == 2
    assert run(other, tmp_path / "in", skip_existing=True).skipped == 2


def test_a_scan_is_done_where_all_that_is_asked_for_is_there(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Also in shards, whose reports keep what the first run knew; what a scan that fails had goes as a whole."""
    model = make_bundle()
    for name in "ab":
        write_scan(tmp_path / "in" / f"{name}.nii.gz")
    run(model, tmp_path / "in")
    more = {"save_probabilities": True, "save_uncertainty": True, "save_classes": True}
    result = run(model, tmp_path / "in", skip_existing=True, **more)
    assert (result.written, result.skipped) == (2, 0)
    assert [run(model, tmp_path / "in", skip_existing=True, shard=f"{n}/2", **more).skipped for n in (1, 2)] == [1, 1]
    (case,) = json.loads((tmp_path / "out" / "predictions-2-of-2.json").read_text())["cases"]
    assert (case["id"], case["status"]) == ("b", "existing")
    assert case["volumes_ml"]
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"no image")
    assert list(run(model, tmp_path / "in", **more).failed) == ["b"]
    left = {path.name for path in (tmp_path / "out").rglob("*") if "predictions" not in path.name}
    assert {"a.nii.gz", "a.npz", "a"} <= left
    assert not {"b.nii.gz", "b.npz", "b"} & left


def test_labels_whose_report_was_replaced_are_made_anew(
    make_bundle: MakeBundle, tmp_path: Path, logged: list[str]
) -> None:
    """Of a model that was run before another one, which was stopped on its way: nobody vouches for them any more."""
    first, second = make_bundle(), make_bundle("second", seed=1)
    for name in "ab":
        write_scan(tmp_path / "in" / f"{name}.nii.gz")
    run(first, tmp_path / "in")
    one = InferConfig(models=(second,), inputs=(tmp_path / "in" / "a.nii.gz",), out=tmp_path / "out", device="cpu")
    assert infer(one).written == 1
    result = run(second, tmp_path / "in", skip_existing=True)
    assert (result.written, result.skipped) == (1, 1)
    assert "1 scan has labels that no report tells of: they are made anew" in logged
    result.predictions.write_text("damaged")
    assert run(second, tmp_path / "in", skip_existing=True).skipped == 2


def test_labels_of_a_killed_run_are_left_alone(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """It could not tell of its last ones, which are newer than its report; those of another model are made anew."""
    first, second = make_bundle(), make_bundle("second", seed=1)
    write_scan(tmp_path / "in" / "a.nii.gz")
    result = run(first, tmp_path / "in")
    report = read_predictions(result.predictions)
    assert report is not None
    write_document(result.predictions, report.model_copy(update={"cases": ()}))
    os.utime(tmp_path / "out" / "a.nii.gz")
    assert run(first, tmp_path / "in", skip_existing=True).skipped == 1
    write_document(result.predictions, report.model_copy(update={"cases": ()}))
    os.utime(tmp_path / "out" / "a.nii.gz")
    assert run(second, tmp_path / "in", skip_existing=True).skipped == 0


def test_a_report_of_before_is_replaced_at_once(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that is killed in its first seconds leaves no report of an earlier run, which `merge` would take."""
    write_scan(tmp_path / "in" / "a.nii.gz")
    model = make_bundle()
    run(model, tmp_path / "in", shard="1/1")
    (tmp_path / "in" / "a.nii.gz").rename(tmp_path / "in" / "b.nii.gz")

    def killed(*_: object) -> None:
        report = read_predictions(tmp_path / "out" / "predictions-1-of-1.json")
        assert report is not None
        assert (report.scans, report.cases) == (1, ())
        raise KeyboardInterrupt

    monkeypatch.setattr("unetpipe.stages.infer.stream_ahead", killed)
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path / "in", shard="1/1")


def test_a_link_to_itself_is_one_scan_that_fails(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """The others go on."""
    write_scan(tmp_path / "in" / "a.nii.gz")
    (tmp_path / "in" / "b.nii.gz").symlink_to("b.nii.gz")
    result = run(make_bundle(), tmp_path / "in")
    assert result.written == 1
    assert "symbolic links" in result.failed["b"]


def test_a_scan_that_fails_keeps_no_labels_of_before(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """They would pass for this model's, and later runs would leave them alone; in whatever format they were."""
    model, damaged = make_bundle(), tmp_path / "in" / "b.nii"
    write_scan(tmp_path / "in" / "a.nii.gz")
    write_scan(damaged)
    run(model, tmp_path / "in", save_uncertainty=True)
    damaged.write_bytes(b"no image")
    assert list(run(model, tmp_path / "in", format=("nifti",)).failed) == ["b"]
    assert names_of(tmp_path / "out") == ["a.nii.gz", "predictions.json", "uncertainty"]
    assert names_of(tmp_path / "out" / "uncertainty") == ["a.nii.gz"]


def test_a_scan_that_fails_is_not_removed(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Where its labels of another format lie beside it; nor is a mask that no run wrote."""
    scan, mask, model = write_scan(tmp_path / "b.mha"), tmp_path / "b.nrrd", make_bundle()
    config = InferConfig(models=(model,), inputs=(scan,), out=tmp_path, format=("nifti",), device="cpu")
    assert infer(config).failed == {}
    mask.write_bytes(b"of an expert")
    scan.write_bytes(b"no image")
    assert list(infer(config).failed) == ["b"]
    assert scan.read_bytes() == b"no image"
    assert mask.is_file()
    assert not (tmp_path / "b.nii.gz").exists()


def test_labels_that_the_newest_report_does_not_name_are_made_anew(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Those of another model in the scan's own format, where this one's were NIfTI."""
    write_scan(tmp_path / "in" / "a.mha")
    first, second = make_bundle(), make_bundle("second", seed=1)
    run(first, tmp_path / "in")
    run(second, tmp_path / "in", format=("nifti",))
    result = run(second, tmp_path / "in", skip_existing=True)
    assert (result.written, result.skipped) == (1, 0)


@pytest.mark.parametrize("skip_existing", [False, True])
def test_labels_never_replace_scans(make_bundle: MakeBundle, tmp_path: Path, skip_existing: bool) -> None:
    """Where the output folder is that of the scans, all of them are named and nothing is written."""
    for name in ("a.nii.gz", "b.mha"):
        write_scan(tmp_path / "in" / name)
    write_scan(tmp_path / "c.nii.gz")
    before = contents(tmp_path / "in")
    inputs = (tmp_path / "in", tmp_path / "c.nii.gz")
    config = InferConfig(
        models=(make_bundle(),), inputs=inputs, out=tmp_path / "in", device="cpu", skip_existing=skip_existing
    )
    with pytest.raises(DatasetError) as error:
        infer(config)
    assert [(fault.case, fault.kind) for fault in error.value.faults] == [
        ("a", "replaces_scan"),
        ("b", "replaces_scan"),
    ]
    assert contents(tmp_path / "in") == before


def test_shards_together_are_the_whole(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Each job of an array makes its part and its own manifest."""
    for n in range(5):
        write_scan(tmp_path / "in" / f"{n}.nii.gz")
    model = make_bundle()
    assert [run(model, tmp_path / "in", shard=f"{n}/2").written for n in (1, 2)] == [3, 2]
    assert names_of(tmp_path / "out") == [
        *(f"{n}.nii.gz" for n in range(5)),
        "predictions-1-of-2.json",
        "predictions-2-of-2.json",
    ]


def test_probabilities_and_uncertainty_are_written_beside(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Each has a folder of its own, so that the labels' folder holds labels only."""
    write_scan(tmp_path / "in" / "a.nii.gz")
    run(make_bundle(values=(0, 4, 9)), tmp_path / "in", save_probabilities=True, save_uncertainty=True)
    labels = read_volume(tmp_path / "out" / "a.nii.gz").array[0]
    saved = np.load(tmp_path / "out" / "probabilities" / "a.npz")
    assert saved["probabilities"].shape == (3, *labels.shape)
    assert (saved["values"][saved["probabilities"].argmax(axis=0)] == labels).mean() > 0.99
    entropy = read_volume(tmp_path / "out" / "uncertainty" / "a.nii.gz").array
    assert entropy.dtype == np.float32
    assert 0 <= entropy.min() < entropy.max() <= 1


def test_each_class_can_have_a_file(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Masks of the classes that were found, named by value and class, put together are the labels."""
    write_scan(tmp_path / "in" / "a.mha")
    run(make_bundle(values=(0, 4, 9)), tmp_path / "in", save_classes=True)
    labels = read_volume(tmp_path / "out" / "a.mha").array
    assert names_of(tmp_path / "out" / "classes" / "a") == ["4_class_1.mha", "9_class_2.mha"]
    for name, value in (("4_class_1.mha", 4), ("9_class_2.mha", 9)):
        np.testing.assert_array_equal(read_volume(tmp_path / "out" / "classes" / "a" / name).array, labels == value)


def test_outputs_are_called_as_scans(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Scans of any name, of one name and in zips have files of their own; what was unpacked does not stay."""
    scans = tmp_path / "in"
    for name in ("p1/t1", "p2/t1", "any/Fall 1 (prä)", "any/a:b", "packed/t1"):
        write_scan(scans / f"{name}.nii.gz")
    packed = Path(shutil.make_archive(str(scans / "p3"), "zip", scans / "packed"))
    temporary = set(Path(tempfile.gettempdir()).glob("unetpipe-*"))
    model = make_bundle()
    run(model, scans / "any", save_classes=True, save_probabilities=True)
    assert names_of(scans / "out") == [
        *("Fall 1 (prä).nii.gz", "a%3Ab.nii.gz", "classes", "predictions.json", "probabilities")
    ]
    assert names_of(scans / "out" / "classes") == ["Fall 1 (prä)", "a%3Ab"]
    assert names_of(scans / "out" / "probabilities") == ["Fall 1 (prä).npz", "a%3Ab.npz"]
    shutil.rmtree(scans / "out")
    run(model, packed, scans / "p1", scans / "p2")
    assert names_of(scans / "out") == ["p1_t1.nii.gz", "p2_t1.nii.gz", "p3.nii.gz", "predictions.json"]
    assert set(Path(tempfile.gettempdir()).glob("unetpipe-*")) <= temporary


def test_the_manifest_says_what_made_what(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """Hash of the weights, training run, versions, settings, and per scan time, volume and warnings."""
    from hashlib import sha256

    model = make_bundle(values=(0, 4, 9), tracking_run="a" * 32)
    write_scan(tmp_path / "in" / "a.nii.gz")
    result = run(model, tmp_path / "in")
    manifest = json.loads(result.predictions.read_text())
    assert manifest["models"][0]["sha256"] == sha256((model / "models" / "model.pt").read_bytes()).hexdigest()
    assert manifest["models"][0]["tracking_run"] == "a" * 32
    assert manifest["cases"][0]["dicom"] is False
    assert manifest["settings"] == {
        "precision": "float32",
        "engine": "torch",
        "step": 0.5,
        "tta": False,
        "postprocess": True,
    }
    assert set(manifest["versions"]) == {"unetpipe", "torch", "monai"}
    case = manifest["cases"][0]
    volume = read_volume(tmp_path / "out" / "a.nii.gz")
    for name, value in (("class 1", 4), ("class 2", 9)):
        expected = (volume.array == value).sum() * volume.grid.voxel_ml
        assert case["volumes_ml"][name] == pytest.approx(expected)
    assert any("border" in warning for warning in case["warnings"])
    assert set(case["seconds"]) == {"load", "predict", "write"}


@pytest.mark.parametrize(("name", "unit"), [("a.nii.gz", "um"), ("b.nrrd", "um"), ("c.tif", "um"), ("d.png", "voxel")])
def test_labels_state_lengths_as_their_scan_does(
    make_bundle: MakeBundle, tmp_path: Path, name: str, unit: Unit
) -> None:
    """A scan in micrometres has labels in micrometres, a picture without lengths has some without."""
    flat = name == "d.png"
    shape, size = ((20, 18), 1.0) if flat else ((20, 18, 17), 5e-4)
    values = np.random.default_rng(0).integers(0, 255, (1, *shape)).astype(np.uint8)
    grid = Grid.of(shape, np.diag([size] * len(shape) + [1] * (4 - len(shape))), unit)
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / name, values, grid)
    assert (
        run(make_bundle(patch=(16,) * len(shape), spacing_mm=(size,) * len(shape)), tmp_path / "in" / name).failed == {}
    )
    labels = read_volume(tmp_path / "in" / "out" / name).grid
    assert labels.unit == unit
    assert np.allclose(labels.matrix, grid.matrix)


def test_what_reading_decided_is_among_the_warnings(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """A header that contradicts itself is read one way, and the record of the scan says which."""
    scan = write_scan(tmp_path / "in" / "a.nii")
    raw = bytearray(scan.read_bytes())
    raw[280:328] = bytes(48)  # srow_x, srow_y and srow_z
    raw[252:254] = b"\1\0"  # qform_code
    scan.write_bytes(raw)
    result = run(make_bundle(), scan)
    assert "the header's sform is all zero; the qform is taken" in result.warnings["a"]


def test_hippocampus_labels_from_a_zip(bundle_folder: Path, shared_data: Path, tmp_path: Path) -> None:
    """A zipped bundle segments a real scan, which an untrained network does badly but on the right grid."""
    archive = shutil.make_archive(str(tmp_path / "model"), "zip", bundle_folder)
    scan = sorted((shared_data / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz"))[0]
    config = InferConfig(models=(Path(archive),), inputs=(scan,), out=tmp_path / "out", device="cpu")
    assert infer(config).failed == {}
    assert read_volume(tmp_path / "out" / scan.name).grid == read_volume(scan).grid


def test_predicted_dice_is_written_and_low_ones_are_flagged(make_bundle: MakeBundle, tmp_path: Path) -> None:
    """A model that knows what its confidence is worth predicts each class's Dice; others refuse the bound for it."""
    sure = ClassQuality(name="class 1", intercept=0, slope=0, below=0.2, above=0.1, cases=9, presence=1)
    unsure = sure.model_copy(update={"name": "class 2", "intercept": 3.0})
    model = make_bundle(quality=Quality(classes=(sure, unsure)))
    scan = write_scan(tmp_path / "a.nii.gz")
    result = run(model, scan, flag_below=0.8)
    assert result.flagged == {"a": ("class 1",)}
    (case,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"]
    assert case["predicted_dice"]["class 1"] == {"dice": 0.5, "low": 0.3, "high": 0.6}
    assert case["predicted_dice"]["class 2"]["dice"] == pytest.approx(0.9526, abs=1e-4)
    assert case["flagged"] == ["class 1"]
    assert run(model, scan, flag_below=0.96, skip_existing=True).flagged == {"a": ("class 1", "class 2")}
    assert run(model, scan, skip_existing=True).flagged == {}
    both = infer(InferConfig(models=(model, make_bundle("other")), inputs=(scan,), out=tmp_path / "two", device="cpu"))
    assert both.flagged == {}
    with pytest.raises(BundleError, match="--flag-below needs a model that predicts its Dice"):
        run(make_bundle("plain"), scan, flag_below=0.8)


@pytest.mark.parametrize("where", ["bundle.predictor.Predictor._segment", "stages.scan_stations.Stations.segment"])
def test_a_gpu_that_has_failed_costs_no_labels(
    where: str, make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every scan to come would fail as well: those of before keep their labels, and the run ends with the reason."""
    model = make_bundle()
    for name in "ab":
        write_scan(tmp_path / "in" / f"{name}.nii.gz")
    run(model, tmp_path / "in")
    before = contents(tmp_path / "out")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def fail(*_: object, **__: object) -> None:
        monkeypatch.setattr(torch, "ones", broken)
        broken()

    monkeypatch.setattr(f"unetpipe.{where}", fail)
    with pytest.raises(DeviceError, match=r"the device cpu has failed"):
        run(model, tmp_path / "in")
    assert contents(tmp_path / "out") | {"predictions.json": b""} == before | {"predictions.json": b""}
