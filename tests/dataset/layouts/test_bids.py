"""BIDS folders of brains and of microscopy."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from unetpipe.dataset.layouts.recognition import inspect_dataset, inspect_scans, read_dataset
from unetpipe.errors import DatasetError


@pytest.fixture(autouse=True)
def _description(files: Any) -> None:
    files.json("dataset_description.json", {"Name": "Brains", "BIDSVersion": "1.9.0"})


def test_sessions(files: Any, tmp_path: Path) -> None:
    """Contrasts that every session has are channels, subjects are patients, dseg files are labels."""
    for subject in ("01", "02"):
        for session in ("a", "b"):
            stem = f"sub-{subject}_ses-{session}"
            place = f"sub-{subject}/ses-{session}/anat"
            files.image(f"{place}/{stem}_T1w.nii.gz", f"{place}/{stem}_FLAIR.nii.gz")
            files.label(f"derivatives/manual/{place}/{stem}_space-T1w_dseg.nii.gz")
    files.image("sub-01/ses-a/anat/sub-01_ses-a_T2w.nii.gz")
    files.text("derivatives/manual/dseg.tsv", "index\tname\n5\tlesion\n")
    manifest, faults = inspect_dataset(tmp_path)
    assert [case.id for case in manifest.cases] == [f"sub-{s}_ses-{t}" for s in ("01", "02") for t in "ab"]
    assert {case.patient for case in manifest.cases} == {"sub-01", "sub-02"}
    assert (manifest.name, manifest.channels) == ("Brains", ("FLAIR", "T1w"))
    assert [(label.value, label.name) for label in manifest.labels] == [(0, "background"), (5, "lesion")]
    assert [(fault.kind, fault.severity) for fault in faults] == [("unused_channel", "warning")]


@pytest.mark.parametrize(
    "label",
    [
        "{sub}_{sample}_SEM_seg-axonmyelin-manual.png",
        "{sub}_{sample}_SEM_dseg.tif",
        "{sample}_{sub}_label-axon_mask.png",
        "{sub}_{sample}_desc-axon_seg.png",
    ],
)
def test_microscopy(files: Any, tmp_path: Path, label: str) -> None:
    """Samples of a subject are cases, pictures are images, and labels have their entities in any order."""
    for subject, sample in (("rat1", "data1"), ("rat1", "data2"), ("rat2", "data1")):
        stem = {"sub": f"sub-{subject}", "sample": f"sample-{sample}"}
        files.image(f"sub-{subject}/micr/sub-{subject}_sample-{sample}_SEM.ome.tif")
        files.json(f"sub-{subject}/micr/sub-{subject}_sample-{sample}_SEM.json", {"PixelSize": [0.1, 0.1]})
        files.label(f"derivatives/labels/sub-{subject}/micr/{label.format(**stem)}")
    manifest, faults = inspect_dataset(tmp_path)
    assert [(case.id, case.patient) for case in manifest.cases] == [
        ("sub-rat1_sample-data1", "sub-rat1"),
        ("sub-rat1_sample-data2", "sub-rat1"),
        ("sub-rat2_sample-data1", "sub-rat2"),
    ]
    assert (manifest.channels, manifest.spatial_dims, faults) == (("SEM",), 2, [])


def test_several_labels_are_not_guessed_among(files: Any, tmp_path: Path) -> None:
    """Masks of one sample that could each be the label are named, with the way to choose; scans need none."""
    files.image("sub-1/micr/sub-1_sample-a_TEM.png")
    for kind in ("axon", "myelin"):
        files.label(f"derivatives/labels/sub-1/micr/sub-1_sample-a_TEM_seg-{kind}-manual.png")
    assert files.faults() == [("sub-1_sample-a", "ambiguous")]
    assert [case.id for case in inspect_scans(tmp_path)[0]] == ["sub-1_sample-a"]
    chosen = "derivatives/labels/{patient}/micr/{patient}_{case}_TEM_seg-axon-manual.png"
    manifest, faults = inspect_dataset(tmp_path, ("{patient}/micr/{patient}_{case}_TEM.png",), chosen)
    assert ([case.id for case in manifest.cases], faults) == (["sub-1_sample-a"], [])


def test_derived_images_are_no_labels(files: Any, tmp_path: Path) -> None:
    """Only label files of the derivatives count, and only images of the subjects."""
    files.image("sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_mod-T1w_defacemask.nii.gz")
    files.image("sub-1/func/sub-1_task-rest_bold.nii.gz", "derivatives/prep/sub-1/anat/sub-1_desc-preproc_T1w.nii.gz")
    files.image("derivatives/prep/sub-1/anat/sub-1_label-GM_probseg.nii.gz")
    files.label("derivatives/prep/sub-1/anat/sub-1_dseg.nii.gz", "derivatives/prep/sub-1/anat/sub-1_mask.nii.gz")
    manifest = read_dataset(tmp_path)
    assert manifest.channels == ("T1w",)
    assert [case.label.name for case in manifest.cases if case.label] == ["sub-1_dseg.nii.gz"]


@pytest.mark.parametrize(
    ("name", "sidecar", "expected"),
    [
        ("anat/sub-1_T1w", None, "MR"),
        ("anat/sub-1_CT", None, "CT"),
        ("ct/sub-1_acq-bone_ct", None, "CT"),
        ("anat/sub-1_T1w", {"Modality": "MR"}, "MR"),
        ("anat/sub-1_scan", {"Modality": "CT"}, "CT"),
        ("micr/sub-1_sample-a_SEM", {"PixelSize": [1, 1]}, None),
    ],
)
def test_modality(files: Any, tmp_path: Path, name: str, sidecar: Any, expected: str | None) -> None:
    """The JSON file beside an image says how it was acquired, else its suffix and folder do."""
    files.image(f"sub-1/{name}.nii.gz")
    case = "_".join(part for part in name.split("/")[1].split("_") if part.startswith(("sub", "sample")))
    files.label(f"derivatives/labels/sub-1/{name.split('/')[0]}/{case}_dseg.nii.gz")
    if sidecar is not None:
        files.json(f"sub-1/{name}.json", sidecar)
    assert read_dataset(tmp_path).modalities == (expected,)


def test_all_cases_have_one_kind_of_label(files: Any, tmp_path: Path) -> None:
    """A mask of the brain does not stand for the lesions of who has none, nor do a foreign derivative's classes."""
    for subject in "123":
        files.image(f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz")
        files.label(f"derivatives/brains/sub-{subject}/anat/sub-{subject}_desc-brain_mask.nii.gz")
    for subject in "12":
        files.label(f"derivatives/lesions/sub-{subject}/anat/sub-{subject}_dseg.nii.gz")
    files.text("derivatives/brains/desc-aseg_dseg.tsv", "index\tname\n2\twhite matter\n")
    assert files.faults() == [("sub-3", "missing_label")]
    manifest, _ = inspect_dataset(tmp_path)
    assert [case.id for case in manifest.cases] == ["sub-1", "sub-2"]
    assert manifest.labels == ()
    shutil.rmtree(tmp_path / "derivatives")
    with pytest.raises(DatasetError, match=r"^sub-1: no \*_dseg, \*_seg or \*_mask in derivatives/"):
        inspect_dataset(tmp_path)


def test_lengths_that_are_not_read_are_said(files: Any, tmp_path: Path) -> None:
    """The size of a picture's pixels, in the JSON file beside it."""
    for subject in "12":
        files.image(f"sub-{subject}/micr/sub-{subject}_sample-a_SEM.png")
        files.json(f"sub-{subject}/micr/sub-{subject}_sample-a_SEM.json", {"PixelSize": [0.1, 0.1]})
        files.label(f"derivatives/labels/sub-{subject}/micr/sub-{subject}_sample-a_SEM_seg.png")
    _, faults = inspect_dataset(tmp_path)
    assert [(fault.kind, fault.severity) for fault in faults] == [("stated_lengths", "warning")]


@pytest.mark.parametrize("beside", ["T1w_label-lesion_roi", "label-lesion_roi", "label-lesion_T1w", "defacemask"])
def test_what_is_drawn_on_an_image_is_no_channel(files: Any, tmp_path: Path, beside: str) -> None:
    """A lesion that other tools want beside the image would tell a network what it is to find."""
    for subject in "12":
        place = f"sub-{subject}/anat/sub-{subject}"
        files.image(f"{place}_T1w.nii.gz", f"{place}_{beside}.nii.gz")
        files.label(f"derivatives/manual/{place}_label-lesion_mask.nii.gz")
    manifest, faults = inspect_dataset(tmp_path)
    assert (manifest.channels, faults) == (("T1w",), [])


@pytest.mark.parametrize(("label", "expected"), [("desc-tumour_dseg", ["background", "oedema", "core"]), ("dseg", [])])
def test_names_are_those_of_the_same_segmentation(files: Any, tmp_path: Path, label: str, expected: list[str]) -> None:
    """A table describes the labels that have its entities; another segmentation's names are no names."""
    for subject in "12":
        files.image(f"sub-{subject}/anat/sub-{subject}_T1w.nii.gz")
        files.label(f"derivatives/seg/sub-{subject}/anat/sub-{subject}_{label}.nii.gz")
    files.text("derivatives/seg/desc-atlas_dseg.tsv", "index\tname\n1\thippocampus\n2\tamygdala\n3\tthalamus\n")
    files.text("derivatives/seg/desc-tumour_dseg.tsv", "index\tname\n1\toedema\n2\tcore\n")
    manifest, _ = inspect_dataset(tmp_path)
    assert [one.name for one in manifest.labels] == expected
