"""Cases of DICOM sources are called by pseudonyms that depend on their UIDs and on the site's secret."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from unetpipe.dataset.manifest import Case
from unetpipe.dataset.privacy.case_ids import CaseIds, is_pseudonym
from unetpipe.dataset.privacy.secret import Secret, site_secret
from unetpipe.errors import UnetpipeError
from unetpipe.imaging.dicom.options import DicomOptions
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
