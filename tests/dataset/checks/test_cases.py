"""Every planted fault is found, none is invented, and all are reported together."""

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from unetpipe.dataset.checks import across_cases
from unetpipe.dataset.checks.cases import CheckReport, check_cases, discover_labels
from unetpipe.dataset.declarations import with_labels
from unetpipe.dataset.layouts.recognition import read_dataset
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid, Unit
from unetpipe.progress import SilentProgress


def check(manifest: Manifest, *, fix_affine: bool = False) -> CheckReport:
    return check_cases(manifest, workers=2, fix_affine=fix_affine, progress=SilentProgress())


def found(report: CheckReport) -> list[tuple[str, str, str]]:
    return [(fault.case, fault.kind, fault.severity) for fault in report.faults]


def image_path(folder: Path, number: int) -> Path:
    return folder / "imagesTr" / f"case_{number}.nii.gz"


def label_path(folder: Path, number: int) -> Path:
    return folder / "labelsTr" / f"case_{number}.nii.gz"


def test_sound_dataset(decathlon: Path) -> None:
    """A sound dataset has no fault, and statistics of every case."""
    report = check(read_dataset(decathlon))
    assert report.faults == ()
    assert [statistics.id for statistics in report.statistics] == [f"case_{number}" for number in range(6)]
    assert report.statistics[0].label_counts == {0: 12 * 14 * 10 - 300, 1: 150, 2: 150}


def test_clean_task04(shared_data: Path) -> None:
    """No fault is invented on real data: neither error nor warning."""
    assert check(read_dataset(shared_data / "Task04_Hippocampus")).faults == ()


def plant_everything(folder: Path, sample: Any) -> None:
    """Plant one fault of each kind in a folder of sixteen cases; case_0 and case_15 stay sound."""
    shifted = sample.grid(origin=0.5)
    turned = Grid.of(sample.SHAPE, np.diag([1.0, -1.0, 1.0, 1.0]))
    write_labels(label_path(folder, 1), sample.label((12, 14, 9)), sample.grid((12, 14, 9)), {})
    write_labels(label_path(folder, 2), sample.label(), shifted, {})
    write_labels(label_path(folder, 3), sample.label(), turned, {})
    image = sample.image(4)
    image[2, 3, 4] = np.nan
    write_image(image_path(folder, 4), image[None], sample.grid())
    label = sample.label()
    label[0, 0, 0] = 9
    write_labels(label_path(folder, 5), label, sample.grid(), {})
    image_path(folder, 6).write_bytes(b"no image")
    label_path(folder, 7).write_bytes(label_path(folder, 7).read_bytes()[:60])
    write_image(image_path(folder, 8), np.full((1, *sample.SHAPE), 7, dtype=np.float32), sample.grid())
    write_image(image_path(folder, 9), np.stack([sample.image(9), sample.image(10)]), sample.grid())
    nib.save(nib.Nifti1Image(sample.label() * np.float32(0.5), np.eye(4)), label_path(folder, 10))
    write_labels(label_path(folder, 11), np.zeros(sample.SHAPE, dtype=np.uint8), sample.grid(), {})
    image_path(folder, 12).write_bytes(image_path(folder, 0).read_bytes())
    write_image(image_path(folder, 13), sample.image(13)[None], sample.grid(spacing=200))
    write_labels(label_path(folder, 13), sample.label(), sample.grid(spacing=200), {})
    nib.save(nib.Nifti1Image(sample.image(14), np.eye(4)), label_path(folder, 14))


EVERYTHING = [
    ("case_1", "shape_mismatch", "error"),
    ("case_2", "affine_mismatch", "error"),
    ("case_3", "affine_mismatch", "error"),
    ("case_4", "non_finite", "error"),
    ("case_5", "unknown_label", "error"),
    ("case_6", "unreadable", "error"),
    ("case_7", "unreadable", "error"),
    ("case_8", "constant_image", "error"),
    ("case_9", "channel_count", "error"),
    ("case_10", "non_integer_label", "error"),
    ("case_11", "empty_label", "warning"),
    ("case_12", "duplicate_image", "warning"),
    ("case_13", "implausible_spacing", "warning"),
    ("case_14", "non_integer_label", "error"),
]


def test_every_fault_in_one_folder(tmp_path: Path, sample: Any) -> None:
    """All faults planted in one folder are found, each once and under its name, and no other."""
    folder = sample.decathlon(tmp_path, cases=16)
    plant_everything(folder, sample)
    report = check(read_dataset(folder))
    assert set(found(report)) == set(EVERYTHING) | {("case_13", "implausible_spacing", "warning")}
    without_errors = {"case_0", "case_11", "case_12", "case_13", "case_15"}
    assert {statistics.id for statistics in report.statistics} == without_errors


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, r"the label has shape \(12, 14, 9\) instead of \(12, 14, 10\)"),
        (
            2,
            r"the label has an origin shifted by 0\.866 mm \(0\.5 voxels\); --fix-affine adopts the first",
        ),
        (3, r"the label has axes that run to RPS instead of RAS, and lies up to 26 mm away"),
        (4, r"the image: 1 voxel is NaN"),
        (5, r"label has unknown values 9 \(1 voxel\); expected 0 background, 1 one, 2 two"),
        (6, r"case_6\.nii\.gz"),
        (8, r"channel MRI has the value 7 everywhere"),
        (9, r"has 2 channels, expected 1 \(MRI\)"),
        (10, r"values that are not integers"),
    ],
)
def test_messages(tmp_path: Path, number: int, text: str, sample: Any) -> None:
    """A fault says what was expected and what was found."""
    folder = sample.decathlon(tmp_path, cases=16)
    plant_everything(folder, sample)
    manifest = read_dataset(folder)
    one = manifest.model_copy(update={"cases": tuple(case for case in manifest.cases if case.id == f"case_{number}")})
    (fault,) = (fault for fault in check(one).faults if fault.severity == "error")
    assert re.search(text, fault.message), fault.message


def test_label_in_another_axis_order(decathlon: Path, sample: Any) -> None:
    """A label stored in another axis order than its image is fine when it means the same voxels."""
    grid = sample.grid()
    affine = grid.matrix[:, [2, 0, 1, 3]].copy()
    affine[:3, 3] += affine[:3, 0] * 9
    affine[:3, 0] *= -1
    turned = np.flip(sample.label().transpose(2, 0, 1), 0)
    write_labels(label_path(decathlon, 0), turned, Grid.of(turned.shape, affine), {})
    report = check(read_dataset(decathlon))
    assert report.faults == ()
    first, second = report.statistics[0].channels[0].foreground, sample.image(0)[sample.label() > 0]
    assert first is not None
    np.testing.assert_allclose((first.mean, first.std), (second.mean(), second.std()), rtol=1e-5)


def test_tolerance(decathlon: Path, sample: Any) -> None:
    """A difference below a tenth of a voxel is none; one above is a fault."""
    write_labels(label_path(decathlon, 0), sample.label(), sample.grid(origin=0.09), {})
    assert check(read_dataset(decathlon)).faults == ()
    write_labels(label_path(decathlon, 0), sample.label(), sample.grid(origin=0.11), {})
    assert found(check(read_dataset(decathlon))) == [("case_0", "affine_mismatch", "error")]


def test_fix_affine(decathlon: Path, sample: Any) -> None:
    """Asked to, the check takes the image's place for a label that lies elsewhere, and says how far it lay."""
    write_labels(label_path(decathlon, 0), sample.label(), sample.grid(origin=3.0), {})
    report = check(read_dataset(decathlon), fix_affine=True)
    assert found(report) == [("case_0", "affine_adopted", "warning")]
    assert "an origin shifted by 5.196 mm" in report.faults[0].message
    assert report.statistics[0].affine_adopted


def test_fix_affine_does_not_fix_shapes(decathlon: Path, sample: Any) -> None:
    """A label of another shape stays a fault."""
    write_labels(label_path(decathlon, 0), sample.label((12, 14, 9)), sample.grid((12, 14, 9)), {})
    assert found(check(read_dataset(decathlon), fix_affine=True)) == [("case_0", "shape_mismatch", "error")]


def test_channels_that_lie_apart(tmp_path: Path, sample: Any) -> None:
    """Channels in several files must share one grid."""
    write_image(tmp_path / "images" / "a_0000.nii.gz", sample.image(0)[None], sample.grid())
    write_image(tmp_path / "images" / "a_0001.nii.gz", sample.image(1)[None], sample.grid(spacing=1.5))
    write_labels(tmp_path / "labels" / "a.nii.gz", sample.label(), sample.grid(), {})
    (fault,) = check(read_dataset(tmp_path)).faults
    assert (fault.case, fault.kind) == ("a", "affine_mismatch")
    assert "a_0001.nii.gz has spacing 1.5 x 1.5 x 1.5 mm instead of 1 x 1 x 1 mm" in fault.message
    assert "--fix-affine" in fault.message
    assert found(check(read_dataset(tmp_path), fix_affine=True)) == [("a", "affine_adopted", "warning")]


def test_near_duplicates(decathlon: Path, sample: Any) -> None:
    """The same scan with a little noise and another scale is reported; two scans of one patient are not."""
    smooth = np.linspace(0, 100, 12 * 14 * 10).reshape(sample.SHAPE).astype(np.float32)
    noisy = 3 * smooth + np.random.default_rng(0).normal(0, 0.5, sample.SHAPE).astype(np.float32)
    write_image(image_path(decathlon, 1), smooth[None], sample.grid())
    write_image(image_path(decathlon, 3), noisy[None], sample.grid())
    manifest = read_dataset(decathlon)
    report = check(manifest)
    assert found(report) == [("case_3", "duplicate_image", "warning")]
    assert "nearly the same image as case_1" in report.faults[0].message
    same = tuple(case.model_copy(update={"patient": "P"}) for case in manifest.cases)
    assert check(manifest.model_copy(update={"cases": same})).faults == ()


def test_many_duplicates_have_a_line_each(decathlon: Path, sample: Any) -> None:
    """Frames of one scan that no patient holds together do not bury other warnings under all of their pairs."""
    smooth = np.linspace(0, 100, 12 * 14 * 10).reshape(sample.SHAPE).astype(np.float32)
    manifest = read_dataset(decathlon)
    for number, case in enumerate(manifest.cases[:6]):
        write_image(case.images[0], (1 + max(0, number - 1)) * smooth[None], sample.grid())  # the first two are equal
    messages = {fault.case: fault.message for fault in check(manifest).faults}
    ids = [case.id for case in manifest.cases]
    assert list(messages) == ids[1:6]
    assert messages[ids[1]].startswith(f"has the same image as {ids[0]}, which counts as another patient: the two may")
    alike = f"has nearly the same image as {ids[0]}, {ids[1]}, {ids[2]} and 2 more, which count as other patients: they"
    assert messages[ids[5]].startswith(alike)


@pytest.mark.parametrize(
    ("numbers", "found"), [((4, 12, 9), True), ((4, 12, 12), False), ((4, 10, 9), False), ((4, 13, 9), False)]
)
def test_numbered_objects_are_no_classes(tmp_path: Path, sample: Any, numbers: tuple[int, ...], found: bool) -> None:
    """Values that run from 1 to another, also large, number in each case are said to be objects; gaps mean classes."""
    for case, number in enumerate(numbers):
        label = np.zeros(sample.SHAPE, np.uint8)
        label.flat[: 20 * number] = np.repeat(np.arange(1, number + 1), 20)
        label[label == 11] = 14 if number == 13 else 11
        write_image(tmp_path / "images" / f"{case}.nii.gz", sample.image(case)[None], sample.grid())
        write_labels(tmp_path / "labels" / f"{case}.nii.gz", label, sample.grid(), {})
    warned = [fault.message for fault in check(read_dataset(tmp_path)).faults if fault.kind == "numbered_objects"]
    assert bool(warned) == found
    assert all(message.endswith("--labels NAME=1-12 makes them one class") for message in warned)


@pytest.mark.parametrize(
    ("values", "ignored"),
    [
        ((1, 2, -1), "-1"),
        ((1, 2, 255), "255"),
        ((1, 255, -100), "-100,255"),
        ((1, 2, 3), ""),
        ((255, 255, 255), ""),
        ((1, 128, 255), ""),
    ],
)
def test_values_of_what_nobody_labelled_are_no_classes(
    tmp_path: Path, sample: Any, values: tuple[int, ...], ignored: str
) -> None:
    """Negative values and 255 beside a few classes are named; a mask of 0 and 255 and blurred edges are not."""
    for case in range(2):
        label = np.zeros(sample.SHAPE, np.int16)
        for number, value in enumerate(values):
            label[2 * number + case : 2 * number + 2 + case, 3:9, 2:8] = value
        write_image(tmp_path / "images" / f"{case}.nii.gz", sample.image(case)[None], sample.grid())
        write_labels(tmp_path / "labels" / f"{case}.nii.gz", label, sample.grid(), {})
    warned = [fault.message for fault in check(read_dataset(tmp_path)).faults if fault.kind == "unlabelled_value"]
    assert len(warned) == bool(ignored)
    assert all(message.endswith(f"--labels ignore={ignored}") for message in warned)


@pytest.mark.parametrize(("unit", "kinds"), [("mm", {"implausible_spacing"}), ("um", set())])
def test_voxels_of_a_microscope(tmp_path: Path, sample: Any, unit: Unit, kinds: set[str]) -> None:
    """Voxels of half a micrometre are implausible in mm, and nothing odd where the file states lengths in µm."""
    grid = Grid.of(sample.SHAPE, np.diag([0.0005, 0.0005, 0.0005, 1.0]), unit)
    for name in "ab":
        write_image(tmp_path / "images" / f"{name}.nii.gz", sample.image(ord(name))[None], grid)
        write_labels(tmp_path / "labels" / f"{name}.nii.gz", sample.label(), grid, {})
    assert {fault.kind for fault in check(read_dataset(tmp_path)).faults} == kinds


def test_spacing_outlier(decathlon: Path, sample: Any) -> None:
    """A spacing far from the others' is probably a wrong header."""
    for path, write in ((image_path(decathlon, 2), write_image), (label_path(decathlon, 2), write_labels)):
        grid = sample.grid(spacing=0.1)
        if write is write_image:
            write_image(path, sample.image(2)[None], grid)
        else:
            write_labels(path, sample.label(), grid, {})
    assert found(check(read_dataset(decathlon))) == [("case_2", "implausible_spacing", "warning")]


def test_absent_class(decathlon: Path) -> None:
    """A declared class that occurs nowhere is reported."""
    content = json.loads((decathlon / "dataset.json").read_text())
    content["labels"]["3"] = "three"
    (decathlon / "dataset.json").write_text(json.dumps(content))
    assert found(check(read_dataset(decathlon))) == [("dataset", "absent_class", "warning")]


def test_ignored_voxels_are_no_foreground(tmp_path: Path, sample: Any) -> None:
    """The ignore value is known, and its voxels count in no statistics."""
    image, label = sample.image(0), sample.label(values=(1,))
    label[0] = 255
    image[0] = 5000
    write_image(tmp_path / "images" / "a.nii.gz", image[None], sample.grid())
    write_labels(tmp_path / "labels" / "a.nii.gz", label, sample.grid(), {})
    manifest = read_dataset(tmp_path).model_copy(update={"ignore_value": 255})
    report = check(manifest)
    assert report.faults == ()
    foreground = report.statistics[0].channels[0].foreground
    assert foreground is not None
    assert foreground.quantiles[-1] < 1000


def test_discovered_labels(tmp_path: Path, sample: Any) -> None:
    """Where no classes are declared, every value that occurs is one, and 0 is the background."""
    for name, values in (("a", (4,)), ("b", (9, 4))):
        write_image(tmp_path / "images" / f"{name}.nii.gz", sample.image(ord(name))[None], sample.grid())
        write_labels(tmp_path / "labels" / f"{name}.nii.gz", sample.label(values=values), sample.grid(), {})
    report = check(read_dataset(tmp_path))
    assert report.faults == ()
    assert [(label.name, label.value) for label in discover_labels(report.statistics)] == [
        ("background", 0),
        ("label_4", 4),
        ("label_9", 9),
    ]


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ([(1,), (255,), (1,)], True),
        ([(1,), (2,), (1,)], False),
        ([(1, 255), (255,), (1,)], False),
        ([(255,), (255,), ()], False),
    ],
)
def test_masks_of_1_and_of_255(tmp_path: Path, values: list[tuple[int, ...]], warned: bool, sample: Any) -> None:
    """One class that is 1 in some files and 255 in others would be two; classes that differ otherwise are classes."""
    for number, of_case in enumerate(values):
        write_image(tmp_path / "images" / f"{number}.nii.gz", sample.image(number)[None], sample.grid())
        write_labels(tmp_path / "labels" / f"{number}.nii.gz", sample.label(values=of_case), sample.grid(), {})
    manifest = read_dataset(tmp_path)
    messages = [fault.message for fault in check(manifest).faults if fault.kind == "two_kinds_of_masks"]
    text = "label values 1 and 255 never occur in one file: --labels NAME=1,255 makes them one class"
    assert messages == [text] * warned
    declared = with_labels(manifest, {"organ": [(1, 1), (255, 255)]})
    assert not [fault for fault in check(declared).faults if "255" in fault.message]


def name_segments(path: Path, names: dict[int, str]) -> None:
    """Put segments as 3D Slicer describes them into the header of an NRRD file."""
    header, voxels = path.read_bytes().split(b"\n\n", 1)
    for number, (value, name) in enumerate(names.items()):
        header += f"\nSegment{number}_Name:={name}\nSegment{number}_LabelValue:={value}".encode()
    path.write_bytes(header + b"\n\n" + voxels)


def test_segmentations_of_slicer_name_the_classes(tmp_path: Path, sample: Any) -> None:
    """Their names are the classes', and the same value must not be called something else in another case."""
    for name, named in (("a", {4: "liver"}), ("b", {4: "Liver", 9: "tumour"})):
        write_image(tmp_path / "images" / f"{name}.nrrd", sample.image(ord(name))[None], sample.grid())
        label = tmp_path / "labels" / f"{name}.seg.nrrd"
        write_labels(label, sample.label(values=tuple(named)), sample.grid(), {})
        name_segments(label, named)
    report = check(read_dataset(tmp_path))
    assert report.faults == ()
    assert [(one.name, one.value) for one in discover_labels(report.statistics)][1:] == [("liver", 4), ("tumour", 9)]
    write_labels(tmp_path / "labels" / "b.seg.nrrd", sample.label(values=(4, 9)), sample.grid(), {})
    name_segments(tmp_path / "labels" / "b.seg.nrrd", {4: "tumour", 9: "liver"})
    assert found(check(read_dataset(tmp_path))) == [("b", "label_names", "error")]


def test_names_of_other_declared_classes_are_errors(tmp_path: Path, sample: Any) -> None:
    """What Slicer numbers otherwise than the declaration; names that nobody declared, and merged values, are none."""
    names = {"a": {1: "Liver", 2: "Tumour"}, "b": {1: "tumour", 2: "liver"}, "c": {1: "Leber", 3: "tumour"}}
    for name, named in names.items():
        write_image(tmp_path / "images" / f"{name}.nrrd", sample.image(ord(name))[None], sample.grid())
        label = tmp_path / "labels" / f"{name}.seg.nrrd"
        write_labels(label, sample.label(values=tuple(named)), sample.grid(), {})
        name_segments(label, named)
    manifest = with_labels(read_dataset(tmp_path), {"liver": ((1, 1),), "tumour": ((2, 3),)})
    errors = [fault for fault in check(manifest).faults if fault.severity == "error"]
    assert [(fault.case, fault.kind) for fault in errors] == [("b", "label_names")] * 2
    assert errors[0].message == "the label calls the value 1 'tumour', which is declared to be the value 2"


def test_what_reading_decided_is_warned_of(tmp_path: Path, sample: Any) -> None:
    """A header that contradicts itself is read one way, and a warning says which."""
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.nii", sample.image(ord(name))[None], sample.grid())
        write_labels(tmp_path / "labels" / f"{name}.nii", sample.label(), sample.grid(), {})
    raw = bytearray((tmp_path / "images" / "b.nii").read_bytes())
    raw[280:328] = bytes(48)  # srow_x, srow_y and srow_z
    (tmp_path / "images" / "b.nii").write_bytes(raw)
    report = check(read_dataset(tmp_path))
    assert found(report) == [("b", "reading", "warning")]
    assert report.faults[0].message == "image b.nii: the header's sform is all zero; the qform is taken"


def test_a_label_of_another_frame_of_reference_is_warned_of(tmp_path: Path, sample: Any) -> None:
    """Such as that of another time point, whose grid is the same by protocol."""
    for case, seeds in {"a": (1, 1), "b": (2, 3)}.items():
        for kind, seed in zip(("images", "labels"), seeds, strict=True):
            array = sample.image(seed) if kind == "images" else sample.label()
            write_series(tmp_path / kind / case, array.astype(np.int16), sample.grid(), seed=seed)
    rows = "".join(f"{case},images/{case},labels/{case}\n" for case in "ab")
    (tmp_path / "list.csv").write_text(f"id,image,label\n{rows}")
    report = check(read_dataset(tmp_path / "list.csv"))
    assert found(report) == [("b", "reading", "warning")]
    assert report.faults[0].message.startswith("label (DICOM): Its frame of reference is not that of the first image")


@pytest.mark.parametrize("equal", [True, False])
def test_a_label_in_colours(tmp_path: Path, equal: bool) -> None:
    """A grey mask saved as red, green and blue is read with a warning; colours are refused with advice."""
    generator = np.random.default_rng(0)
    picture = Grid.of((16, 16), np.eye(4), "voxel")
    mask = np.zeros((16, 16), np.uint8)
    mask[4:9, 5:12] = 1
    for name in ("a", "b"):
        image = generator.integers(0, 255, (1, 16, 16)).astype(np.uint8)
        write_image(tmp_path / "images" / f"{name}.png", image, picture)
        write_image(tmp_path / "labels" / f"{name}.png", np.stack([mask, mask, mask if equal else 2 * mask]), picture)
    report = check(read_dataset(tmp_path))
    if equal:
        assert found(report) == [(name, "reading", "warning") for name in ("a", "b")]
        assert report.faults[0].message == "label a.png: the 3 channels of the label are equal; one is taken"
    else:
        assert found(report) == [(name, "label_channels", "error") for name in ("a", "b")]
        assert "the label has 3 channels, expected 1; save the class of each voxel" in report.faults[0].message


def test_labels_with_loss_are_refused(tmp_path: Path) -> None:
    """JPEG invents values at edges, which would become classes."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        picture = Grid.of((16, 16), np.eye(4), "voxel")
        write_image(
            tmp_path / "images" / f"{name}.png", generator.integers(0, 255, (1, 16, 16)).astype(np.uint8), picture
        )
        write_image(tmp_path / "labels" / f"{name}.jpg", np.eye(16, dtype=np.uint8)[None] * 255, picture)
    report = check(read_dataset(tmp_path))
    assert found(report) == [("a", "unreadable", "error"), ("b", "unreadable", "error")]
    assert report.faults[0].message.startswith("label a.jpg: labels stored with loss")


def test_an_image_in_place_of_a_label(tmp_path: Path, sample: Any) -> None:
    """Undeclared classes do not let an image pass as a label."""
    write_image(tmp_path / "images" / "a.nii.gz", sample.image(0)[None], sample.grid())
    many = np.arange(np.prod(sample.SHAPE), dtype=np.int16).reshape(1, *sample.SHAPE)
    write_image(tmp_path / "labels" / "a.nii.gz", many, sample.grid())
    assert found(check(read_dataset(tmp_path))) == [("a", "not_a_label", "error")]


def test_missing_label_and_files(tmp_path: Path) -> None:
    """Files that vanish after listing, and cases without label, are faults like any other."""
    gone = Case(id="a", images=(tmp_path / "gone.nii.gz",), label=tmp_path / "gone too.nii.gz")
    unlabelled = Case(id="b", images=(tmp_path / "gone.nii.gz",))
    manifest = Manifest(name="x", channels=("MRI",), labels=(), spatial_dims=3, cases=(gone, unlabelled))
    assert {(case, kind) for case, kind, _ in found(check(manifest))} == {
        ("a", "missing_file"),
        ("b", "missing_file"),
        ("b", "missing_label"),
    }


def test_known_cases_are_not_read_again(decathlon: Path, sample: Any) -> None:
    """Statistics of an unchanged case are taken over, and those of a changed one are not."""
    manifest = read_dataset(decathlon)
    first = {statistics.id: statistics for statistics in check(manifest).statistics}
    marked = {name: statistics.model_copy(update={"image_hash": "remembered"}) for name, statistics in first.items()}
    write_image(image_path(decathlon, 4), sample.image(99)[None], sample.grid())
    again = check_cases(manifest, workers=2, fix_affine=False, progress=SilentProgress(), known=marked)
    hashes = {statistics.id: statistics.image_hash for statistics in again.statistics}
    assert hashes.pop("case_4") != "remembered"
    assert set(hashes.values()) == {"remembered"}


def test_known_cases_are_held_against_the_channels_that_are_declared_now(decathlon: Path) -> None:
    """A channel more in the dataset's description, and the files as before: each case says that it lacks one."""
    manifest = read_dataset(decathlon)
    known = {statistics.id: statistics for statistics in check(manifest).statistics}
    more = manifest.model_copy(update={"channels": (*manifest.channels, "b"), "modalities": ()})
    report = check_cases(more, workers=1, fix_affine=False, progress=SilentProgress(), known=known)
    assert {fault.kind for fault in report.faults if fault.severity == "error"} == {"channel_count"}


def test_all_near_duplicates_of_a_large_dataset_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few images are compared with all others at a time."""
    signatures = np.random.default_rng(0).normal(0, 1, (20, 64))
    signatures[17], signatures[9] = signatures[3], signatures[8]
    signatures /= np.linalg.norm(signatures, axis=1, keepdims=True)
    for rows in (1, 4, 1024):
        monkeypatch.setattr(across_cases, "_ROWS", rows)
        assert list(across_cases._near_pairs(signatures)) == [(3, 17), (8, 9)]


@pytest.mark.parametrize(("first", "other"), [(3, 1), (1, 3)])
def test_a_grey_picture_among_colour_ones_is_told_the_way_on(tmp_path: Path, first: int, other: int) -> None:
    """And the other way round: it is not taken for a colour, as it may be one stain of several."""
    grid = Grid.of((12, 10), np.eye(4), "voxel")
    for name, channels in (("a", first), ("b", other)):
        pixels = np.random.default_rng(channels).integers(0, 255, (channels, 12, 10)).astype(np.uint8)
        write_image(tmp_path / "images" / f"{name}.png", pixels, grid)
        write_labels(tmp_path / "labels" / f"{name}.png", (pixels[0] > 99).astype(np.uint8), grid, {})
    (fault,) = [one for one in check(read_dataset(tmp_path)).faults if one.severity == "error"]
    assert (fault.case, fault.kind) == ("b", "channel_count")
    assert fault.message.startswith("has 1 channel, " if other == 1 else "has 3 channels, ")
    assert "convert('RGB')" in fault.message
