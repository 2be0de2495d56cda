"""Cases of DICOM sources are called by pseudonyms that depend on their UIDs and on the site's secret."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from unetpipe.dataset.manifest import Case
from unetpipe.dataset.privacy.case_ids import CaseIds, is_pseudonym
from unetpipe.dataset.privacy.secret import Secret, private_folder, site_secret
from unetpipe.errors import UnetpipeError
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.study import first_identifiers
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.geometry import Grid

GRID = Grid.of((4, 3, 2), np.eye(4))


def series(folder: Path, seed: int) -> Case:
    write_series(folder, np.zeros(GRID.shape, np.int16), GRID, seed=seed)
    return Case(id=folder.name, images=(folder,))


def test_a_study_has_one_id_wherever_it_lies(tmp_path: Path) -> None:
    """The id follows from UIDs: another folder, name or command gives the same, another series a different one."""
    ids = CaseIds(None, tmp_path / "work")
    one, other = ids.pseudonyms([series(tmp_path / "Mustermann", 1), series(tmp_path / "Musterfrau", 2)])
    assert one is not None
    assert other is not None
    assert is_pseudonym(one)
    assert one != other
    shutil.move(tmp_path / "Mustermann", tmp_path / "moved")
    moved = Case(id="moved", images=(tmp_path / "moved",))
    assert CaseIds(None, tmp_path / "predictions").pseudonyms([moved]) == [one]
    assert CaseIds(None, tmp_path / "other site" / "work").pseudonyms([moved]) != [one]


def test_the_secret_of_an_earlier_version_is_used_until_it_is_moved(tmp_path: Path, logged: list[str]) -> None:
    """One that lies in a work folder gives the ids that its labels have; moved out as is said, it gives the same."""
    work, outside = tmp_path / "work", tmp_path / "unetpipe-private"
    labels, inside = work / "labels", work / "unetpipe-private"
    earlier = site_secret(labels)  # before the folder was known to be a work folder
    for name in ("manifest.json", "plan.yaml"):
        (work / name).touch()
    assert inside.is_dir()
    assert site_secret(labels) == earlier
    assert any(line.endswith(f"that may be handed on: move it to {outside}") for line in logged)
    assert not outside.exists()
    assert site_secret(tmp_path / "other") != earlier
    logged.clear()
    assert site_secret(labels) == earlier
    assert any(f"{outside} has another secret" in line for line in logged)
    assert not any("move it to" in line for line in logged)
    shutil.rmtree(outside)
    shutil.move(inside, outside)
    logged.clear()
    assert site_secret(labels) == earlier
    assert logged == []


def test_only_dicom_has_pseudonyms_unless_told_otherwise(tmp_path: Path) -> None:
    """Without a choice other formats keep their names and need no secret; either choice holds for all cases."""
    (tmp_path / "a.nii.gz").touch()
    image, dicom = Case(id="a", images=(tmp_path / "a.nii.gz",)), series(tmp_path / "b", 1)
    assert CaseIds(None, tmp_path / "work").pseudonyms([image]) == [None]
    assert CaseIds("name", tmp_path / "work").pseudonyms([image, dicom]) == [None, None]
    assert not (tmp_path / "unetpipe-private").exists()
    assert all(map(is_pseudonym, filter(None, CaseIds("hash", tmp_path / "work").pseudonyms([image, dicom]))))
    assert CaseIds(None, None).pseudonyms([image, dicom]) == [None, "case_2"]


def test_sources_that_cannot_be_read_have_pseudonyms_too(tmp_path: Path) -> None:
    """A damaged zip or slice may have been DICOM, and may be called after a patient."""
    cases = [Case(id=name, images=(tmp_path / name,)) for name in ("Muster.zip", "Muster.dcm", "Muster.nii.gz")]
    for case in cases:
        case.images[0].write_bytes(b"damaged")
    assert [bool(one) for one in CaseIds(None, tmp_path / "work").pseudonyms(cases)] == [True, True, False]


def test_cases_of_one_series_are_told_apart(tmp_path: Path) -> None:
    """Copies by their names, and volumes of one source by what is read of it."""
    first = series(tmp_path / "first", 1)
    copy = Case(id="copy", images=(Path(shutil.copytree(tmp_path / "first", tmp_path / "copy")),))
    phases = [Case(id=f"phase {n}", images=first.images, dicom=(DicomOptions(series="1", phase=n),)) for n in (1, 2)]
    pseudonyms = CaseIds(None, tmp_path / "work").pseudonyms([first, copy, *phases])
    assert len(set(pseudonyms)) == 4


def test_a_study_has_the_same_id_among_others(tmp_path: Path) -> None:
    """In a folder of its own, and in one that holds other studies too, where it has to be chosen."""
    ids, case = CaseIds(None, tmp_path / "work"), series(tmp_path / "alone", 1)
    study, _ = first_identifiers(case.images[0])
    (tmp_path / "both").mkdir()
    series(tmp_path / "other", 2)
    for folder in ("alone", "other"):
        for file in (tmp_path / folder).iterdir():
            shutil.copy(file, tmp_path / "both" / f"{folder}_{file.name}")
    among = Case(id="both_1", images=(tmp_path / "both",), dicom=(DicomOptions(study=study),))
    assert ids.pseudonyms([case]) == ids.pseudonyms([among])


@pytest.mark.parametrize("mark", [("manifest.json", "plan.yaml"), ("configs/metadata.json",)])
def test_the_secret_is_never_in_what_is_handed_on(tmp_path: Path, mark: tuple[str, ...]) -> None:
    """Labels may be written into a work folder or a run: the secret lies beside the outermost of them."""
    for name in mark:
        path = tmp_path / "site" / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    expected = tmp_path / "site" / "unetpipe-private"
    for folder in ("work", "work/labels", "work/runs/default/fold_0/labels", "labels"):
        assert private_folder(tmp_path / "site" / folder) == expected
    assert private_folder(tmp_path / "elsewhere" / "labels") == tmp_path / "elsewhere" / "unetpipe-private"


def test_the_secret_is_made_once_for_its_owner(tmp_path: Path) -> None:
    """A second reader finds the first one's secret, which others cannot read and messages do not show."""
    secret = site_secret(tmp_path / "work")
    assert site_secret(tmp_path / "predictions") == secret
    (file,) = (tmp_path / "unetpipe-private").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret.key.hex() not in repr(secret)
    assert secret.digest("a", "b") != secret.digest("ab")
    assert Secret(b"\x0b" * 20).digest("Hi There") == "b0344c61d8db3853"  # RFC 4231, case 1


def test_a_secret_that_cannot_be_used_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged one is an error that names two ways on; one that others can read is warned about."""
    (tmp_path / "unetpipe-private").mkdir()
    (tmp_path / "unetpipe-private" / "secret").write_text("no digits")
    with pytest.raises(UnetpipeError, match="UNETPIPE_PRIVATE, or keep the dataset's names by --case-ids name"):
        site_secret(tmp_path / "work")
    assert "can be read by other users" in caplog.text
