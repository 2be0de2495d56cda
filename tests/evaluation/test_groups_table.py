"""Columns of a table by whose values cases are split into groups."""

from pathlib import Path

import pytest

from unetpipe.dataset.layouts.tables import list_table
from unetpipe.errors import UnetpipeError
from unetpipe.evaluation.groups_table import read_groups

IDS = ["p1_a", "p1_b", "p2"]
PATIENTS = {"p1_a": "p1", "p1_b": "p1"}


@pytest.mark.parametrize(
    "rows",
    [
        "case,Scanner\np1_a,x\np1_b,x\np2,y\n",
        "ID;scanner\np1_a;x\np1_b;x\np2;y\n",
        "image,label,scanner\nimg/p1_a.nii.gz,l/1.nii.gz,x\nimg/p1_b.nii.gz,l/2.nii.gz,x\nimg/p2.nii.gz,l/3.nii.gz,y\n",
        "image_0,image_1,label,scanner\np1_a_0000.mha,b,l,x\np1_b_0000.mha,b,l,x\np2_0000.mha,b,l,y\n",
        "patient,scanner\np1,x\np2,y\np3,z\n",
    ],
    ids=["case", "id", "image", "channels", "patient"],
)
def test_rows_are_found_by_the_columns_that_lists_have(tmp_path: Path, rows: str) -> None:
    """A list that preprocessing takes, or a table of patients, says which group each case is in."""
    table = tmp_path / "cases.csv"
    table.write_text(rows)
    assert read_groups(table, ["Scanner"], IDS, PATIENTS) == {"scanner": {"p1_a": "x", "p1_b": "x", "p2": "y"}}


def test_a_case_may_be_called_like_a_channel(tmp_path: Path) -> None:
    """Numbered from 0000 on: the first is no channel of another one."""
    (tmp_path / "t.csv").write_text("image,label,sex\na_0000.png,l,f\na_0001.png,l,m\n")
    found = read_groups(tmp_path / "t.csv", ["sex"], ["a_0000", "a_0001"], {})
    assert found == {"sex": {"a_0000": "f", "a_0001": "m"}}


def test_rows_may_have_the_names_of_cases_with_pseudonyms(tmp_path: Path) -> None:
    """The dataset's own list says in which group a case is that is reported under a pseudonym."""
    (tmp_path / "t.csv").write_text("id,sex\nMuster,f\np2,m\n")
    found = read_groups(tmp_path / "t.csv", ["sex"], ["case-1", "p2"], {}, {"Muster": "case-1", "Other": "case-2"})
    assert found == {"sex": {"case-1": "f", "p2": "m"}}


def test_an_empty_cell_puts_a_case_into_no_group(tmp_path: Path) -> None:
    """A case whose cell is empty, or that has no row, is left out of the column."""
    (tmp_path / "t.csv").write_text("case,sex\np1_a,f\np1_b,\n")
    assert read_groups(tmp_path / "t.csv", ["sex"], IDS, PATIENTS) == {"sex": {"p1_a": "f"}}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("case,sex\np2,f\n", "t.csv has no column scanner; its columns are case, sex"),
        ("name,scanner\np2,x\n", "t.csv should say whose rows they are in a column case, id,"),
        ("case,scanner\nq,x\n", "t.csv: no row belongs to a case that is evaluated; its column case is taken"),
        ("case,scanner\np2,x\np2,y\n", "t.csv, line 3: p2 has two values in column scanner"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, rows: str, said: str) -> None:
    """One line says what is wrong with it."""
    (tmp_path / "t.csv").write_text(rows)
    with pytest.raises(UnetpipeError, match=said):
        read_groups(tmp_path / "t.csv", ["scanner"], IDS, PATIENTS)


def test_a_column_of_measurements_is_no_column_of_groups(tmp_path: Path) -> None:
    """An age in years makes a group a patient, which says nothing."""
    (tmp_path / "t.csv").write_text("case,age\n" + "".join(f"c{n},{n}\n" for n in range(40)))
    with pytest.raises(UnetpipeError, match="column age has 40 values, and at most 12 groups are compared"):
        read_groups(tmp_path / "t.csv", ["age"], [f"c{n}" for n in range(40)], {})


def test_files_of_one_name_in_folders_of_patients_are_told_apart(tmp_path: Path) -> None:
    """Cases are called as `preprocess` calls those of the same list."""
    table = tmp_path / "cases.csv"
    table.write_text(
        "image_0,label,patient,sex\nanna/v1/t1.nii.gz,anna/v1/s.nii.gz,anna,f\nben/v1/t1.nii.gz,ben/v1/s.nii.gz,ben,m\n"
    )
    for name in ("anna", "ben"):
        (tmp_path / name / "v1").mkdir(parents=True)
        for file in ("t1.nii.gz", "s.nii.gz"):
            (tmp_path / name / "v1" / file).touch()
    ids = [case.id for case in list_table(table).cases]
    assert read_groups(table, ["sex"], ids, {}) == {"sex": dict(zip(ids, "fm", strict=True))}


def test_a_whole_number_with_a_fraction_of_zero_is_the_same_value(tmp_path: Path) -> None:
    """It is shown as it is written first; what only looks alike, such as versions, stays apart."""
    (tmp_path / "t.csv").write_text("case,tesla,version\np1_a,3.0,1.2\np1_b,3,1.2.0\np2,1.5,1.20\np2,1.50,1.20\n")
    with pytest.raises(UnetpipeError, match="line 5: p2 has two values in column tesla"):
        read_groups(tmp_path / "t.csv", ["tesla"], IDS, {})
    (tmp_path / "t.csv").write_text("case,tesla,version\np1_a,3.0,1.2\np1_b,3,1.2.0\np2,3.00,1.20\np2,3,1.20\n")
    assert read_groups(tmp_path / "t.csv", ["tesla", "version"], IDS, {}) == {
        "tesla": {"p1_a": "3.0", "p1_b": "3.0", "p2": "3.0"},
        "version": {"p1_a": "1.2", "p1_b": "1.2.0", "p2": "1.20"},
    }
