"""Tables and JSON lists of cases, for data that stays where it is."""

from typing import Any

import numpy as np
import pytest

from unetpipe.dataset.layouts.recognition import inspect_dataset, read_dataset
from unetpipe.errors import DatasetError
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.geometry import Grid

KEYS = "fold, id, image, images, label, modality, patient, phase, series"


@pytest.fixture(autouse=True)
def _scans(files: Any) -> None:
    files.image("a.nii.gz", "b.nii.gz")
    files.label("l.nii.gz")


def test_table(files: Any) -> None:
    """A table lists files anywhere, with ids, patients, folds and a column per channel."""
    text = "id,image_0,image_1,label,patient,fold\nscan 1,a.nii.gz,b.nii.gz,l.nii.gz,P7,3\n"
    case = read_dataset(files.text("cases.csv", text)).cases[0]
    assert (case.id, case.patient, case.fold, len(case.images)) == ("scan 1", "P7", 3, 2)
    tabs = files.text("cases.tsv", text.replace(",", "\t"))
    assert read_dataset(tabs).cases[0] == case


@pytest.mark.parametrize("name", ["cases.csv", "cases.json", "datalist.json"])
def test_a_list_in_another_code_page(files: Any, name: str) -> None:
    """A list that is not UTF is read as Windows-1252, with a warning, which comes before names that it got wrong."""
    texts = {
        "cases.csv": "id,image,label\n{0},{0}.nii.gz,l.nii.gz\n",
        "cases.json": '[{{"id": "{0}", "image": "{0}.nii.gz", "label": "l.nii.gz"}}]',
        "datalist.json": '{{"training": [{{"image": "{0}.nii.gz", "label": "l.nii.gz"}}]}}',
    }
    message = f"{name} is not UTF-8 and was read as Windows-1252; save it as UTF-8 if names look wrong"
    path = files.folder / name
    files.image("Müller.nii.gz", "Иванов.nii.gz")
    path.write_bytes(texts[name].format("Müller").encode())
    assert inspect_dataset(path)[1] == []
    path.write_bytes(texts[name].format("Müller").encode("cp1252"))
    manifest, faults = inspect_dataset(path)
    assert [case.id for case in manifest.cases] == ["Müller"]
    assert [(fault.kind, fault.severity, fault.message) for fault in faults] == [("encoding", "warning", message)]
    path.write_bytes(texts[name].format("Иванов").encode("cp1251"))
    with pytest.raises(DatasetError, match="does not exist") as caught:
        inspect_dataset(path)
    assert caught.value.faults[0].message == message


def test_paths_of_windows(files: Any) -> None:
    """Backslashes separate folders, and the case is called as its file is."""
    files.image("scans/x.nii.gz")
    case = read_dataset(files.text("cases.csv", "image;label\n.\\scans\\x.nii.gz;.\\l.nii.gz\n")).cases[0]
    assert (case.id, case.images) == ("x", (files.folder / "scans" / "x.nii.gz",))


def test_rows_choose_the_volume_of_a_dicom_source(files: Any) -> None:
    """A series and a phase per row, or a series per channel of one source; what contradicts them is a fault."""
    write_series(files.folder / "study", np.zeros((4, 3, 2), np.int16), Grid.of((4, 3, 2), np.eye(4)), seed=1)
    text = "id,image,label,series,phase\n1,study,l.nii.gz,Modality=MR,2\n2,a.nii.gz,l.nii.gz,,\n"
    one, plain = read_dataset(files.text("cases.csv", text)).cases
    assert (one.dicom, plain.dicom) == ((DicomOptions(series="Modality=MR", phase=2),), ())
    two = {"image": "study", "label": "l.nii.gz", "series": [1, "SeriesDescription~t2"]}
    (case,) = read_dataset(files.json("cases.json", [two])).cases
    assert (len(case.images), [choice.series for choice in case.dicom]) == (2, ["1", "SeriesDescription~t2"])
    columns = files.text("more.csv", "image,label,series_0,series_1\nstudy,l.nii.gz,1,SeriesDescription~t2\n")
    assert read_dataset(columns).cases[0].dicom == case.dicom
    columns = files.text("some.csv", "image,label,series_0,series_1\nstudy,l.nii.gz,1,2\na.nii.gz,l.nii.gz,,\n")
    assert {one.images[0].name: len(one.dicom) for one in read_dataset(columns).cases} == {"study": 2, "a.nii.gz": 0}
    fixed = inspect_dataset(files.folder / "cases.json", dicom=(DicomOptions(fix_geometry=True),))[0].cases[0]
    assert [choice.fix_geometry for choice in fixed.dicom] == [True, True]
    faults = inspect_dataset(files.folder / "cases.json", dicom=(DicomOptions(series="1"),))[1]
    assert "both the list of cases and --series or --phase choose a volume" in str(faults[0])
    for bad in ({"series": "t1"}, {"phase": "x"}, {"series": "1", "image": "a.nii.gz"}, {"phase": 0}):
        with pytest.raises(DatasetError, match=r"cases\[0\]"):
            inspect_dataset(files.json("bad.json", [{**two, "series": None, **bad}]))


def test_folds_that_split_a_patient(files: Any) -> None:
    """Declared folds are kept, and a patient whose cases are on both sides is named."""
    text = "id,image,label,patient,fold\n1,a.nii.gz,l.nii.gz,P1,0\n2,b.nii.gz,l.nii.gz,P1,1\n3,b.nii.gz,l.nii.gz,P2,1\n"
    _, (fault,) = inspect_dataset(files.text("cases.csv", text))
    assert (fault.kind, fault.severity, fault.message[-3:]) == ("split_patient", "warning", " P1")


def test_table_faults(files: Any) -> None:
    """Duplicate ids, missing files and empty cells are listed in one go."""
    files.text(
        "cases.csv",
        "id,image,label\n1,a.nii.gz,l.nii.gz\n1,a.nii.gz,l.nii.gz\n2,gone.nii.gz,l.nii.gz\n3,a.nii.gz,\n4,,l.nii.gz\n",
    )
    assert files.faults("cases.csv") == [
        ("1", "duplicate_id"),
        ("2", "missing_image"),
        ("3", "missing_label"),
        ("4", "missing_image"),
    ]


def test_an_empty_channel_is_named(files: Any) -> None:
    """Which column of which line lacks its path is said."""
    path = files.text("cases.csv", "image_0,image_1,label\na.nii.gz,,l.nii.gz\n")
    with pytest.raises(DatasetError, match=r"cases\.csv, line 2: image_1 is empty"):
        read_dataset(path)


def test_further_columns_are_left_to_others(files: Any) -> None:
    """By which `evaluate --by` splits cases; they are named, and a mistake in a column that counts is none of them."""
    files.image("a.nii.gz")
    files.label("l.nii.gz")
    path = files.text("cases.csv", "image,label,scanner,sex,age\na.nii.gz,l.nii.gz,x,f,7\n")
    manifest, faults = inspect_dataset(path)
    assert [case.id for case in manifest.cases] == ["a"]
    assert [(fault.kind, fault.severity, fault.message) for fault in faults] == [
        ("unused_columns", "warning", "cases.csv: not read: age, scanner, sex")
    ]


@pytest.mark.parametrize(
    ("columns", "questions"),
    [
        ("image,label,patients", "is patients meant as patient?"),
        ("image,label,patient_id", "is patient_id meant as patient?"),
        ("image,label,PatientID", "is patientid meant as patient?"),
        ("image,label,ids", "is ids meant as id?"),
        ("image,label,folds", "is folds meant as fold?"),
        ("image,label,serie", "is serie meant as series?"),
        ("images,labels,x", "is images meant as image?; is labels meant as label?"),
    ],
)
def test_a_misspelt_column_is_named(files: Any, columns: str, questions: str) -> None:
    """A column that looks like one that is read is refused, with the question which one is meant."""
    path = files.text("cases.csv", f"{columns}\na.nii.gz,l.nii.gz,x\n")
    with pytest.raises(DatasetError, match="columns should be image") as caught:
        read_dataset(path)
    assert str(caught.value).endswith(f"; {questions}")


@pytest.mark.parametrize("head", ["image,mask", "label,id", "image,image_0,label", "image,patient"])
def test_columns(files: Any, head: str) -> None:
    """Columns that mean nothing are refused with those that would."""
    path = files.text("cases.csv", f"{head}\na,b\n")
    with pytest.raises(DatasetError, match="columns should be image"):
        read_dataset(path)


def test_json(files: Any) -> None:
    """A JSON list may declare channels and classes."""
    content = {
        "name": "listed",
        "channels": "CT",
        "labels": {"background": 0, "lesion": 4, "ignore": 9},
        "cases": [{"image": "a.nii.gz", "label": "l.nii.gz", "patient": 3}],
    }
    manifest = read_dataset(files.json("cases.json", content))
    assert (manifest.name, manifest.channels, manifest.ignore_value) == ("listed", ("CT",), 9)
    assert [label.value for label in manifest.labels] == [0, 4]
    assert manifest.cases[0].patient == "3"


def test_json_faults_name_their_place(files: Any) -> None:
    """One bad entry names itself and what it holds; the others are listed all the same."""
    good = {"image": "a.nii.gz", "label": "l.nii.gz"}
    bad = [{"id": "z", "image": None, "label": "l.nii.gz"}, {**good, "mask": "m"}, {**good, "patient": []}]
    manifest, faults = inspect_dataset(files.json("cases.json", [good, *bad]))
    assert [case.id for case in manifest.cases] == ["a"]
    assert [str(fault) for fault in faults] == [
        "dataset: cases.json: cases[3]: 'patient' should be a text, got []",
        f"dataset: cases.json: cases[2]: keys should be among {KEYS}, got mask",
        "z: cases.json: cases[1]: 'image' should be a path or paths, got None",
    ]


def test_unknown_keys(files: Any) -> None:
    """A key that means nothing is refused with those that would."""
    path = files.json("cases.json", {"cases": [], "classes": {}})
    with pytest.raises(DatasetError, match=r"perhaps name, channels, modality, labels.*; got classes"):
        read_dataset(path)


@pytest.mark.parametrize(
    ("columns", "modalities", "expected"),
    [
        ("image,modality", ["ct", "CT"], ("CT",)),
        ("image_0,image_1,modality", ["CT", "CT"], ("CT", "CT")),
        ("image_0,image_1,modality_0,modality_1", ["PET,CT", "PT,CT"], ("PT", "CT")),
        ("image", ["", ""], ()),
    ],
)
def test_modality_of_a_table(files: Any, columns: str, modalities: list[str], expected: tuple[str, ...]) -> None:
    """A column holds the modality of all channels, numbered columns that of each, by DICOM's codes or usual names."""
    images = ",".join(["a.nii.gz"] * columns.count("image"))
    lines = [f"{number},l.nii.gz,{images},{modality}".strip(",") for number, modality in enumerate(modalities)]
    path = files.text("cases.csv", "\n".join([f"id,label,{columns}", *lines]))
    assert read_dataset(path).modalities == expected


def test_modality_of_a_json_list(files: Any) -> None:
    """The list, its cases or the names of its channels declare the modality, and may not contradict each other."""
    case = {"image": "a.nii.gz", "label": "l.nii.gz"}
    for content in (
        {"modality": "CT", "cases": [case]},
        {"channels": ["CT"], "cases": [case]},
        {"channels": ["scan"], "modality": {"0": "CT"}, "cases": [case]},
        [{**case, "modality": "CT"}],
    ):
        assert read_dataset(files.json("cases.json", content)).modalities == ("CT",)
    for content in (
        {"channels": ["CT"], "modality": "MR", "cases": [case]},
        {"modality": "X-ray of my leg", "cases": [case]},
        {"modality": ["CT", "PT"], "cases": [case]},
    ):
        files.json("cases.json", content)
        assert files.faults("cases.json") == [("dataset", "bad_modality")]
    files.json("cases.json", [{**case, "modality": "CT"}, {**case, "id": "b", "modality": "MR"}])
    assert files.faults("cases.json") == [("dataset", "mixed_modalities")]
