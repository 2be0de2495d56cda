"""A study that was segmented is known again, whole or in part."""

import os
import time
from pathlib import Path

import pytest

from unetpipe.dataset.privacy.secret import site_secret
from unetpipe.imaging.dicom.instances import InstanceIdentity
from unetpipe.service.journal import Journal, Segmented
from unetpipe.service.names import Names


def segmented(series: dict[str, tuple[str, ...]], model: str = "m", study: str = "s") -> Segmented:
    return Segmented(study=study, series=series, model=model)


WHOLE = segmented({"a": ("1", "2", "3")})


@pytest.mark.parametrize(
    ("arrived", "repeat", "remainder"),
    [
        (WHOLE, True, False),
        (segmented({"a": ("1", "2")}), True, True),
        (segmented({"a": ("2", "4")}), False, True),
        (segmented({"a": ("1", "2", "3", "4")}), False, False),
        (segmented({"a": ("1", "2", "3")}, model="other"), False, False),
        (segmented({"b": ("9",)}), False, False),
        (segmented({"a": ("1", "2", "3")}, study="other"), False, False),
    ],
)
def test_what_arrives_again_is_told_from_what_is_new(
    arrived: Segmented, repeat: bool, remainder: bool, tmp_path: Path
) -> None:
    """All of it known: a repeat. Some slices of a known series with new ones: a remainder. Else it is new."""
    Journal(tmp_path).add("result", WHOLE)
    journal = Journal(tmp_path)  # as after a start
    assert "result" in journal
    assert journal.is_repeat(arrived) is repeat
    assert journal.is_remainder(arrived) is remainder


def test_a_day_later_a_study_is_new(tmp_path: Path) -> None:
    """Who sends it again then wants it to be segmented again."""
    Journal(tmp_path).add("result", WHOLE)
    day_before = time.time() - 90000
    os.utime(tmp_path / "result.json", (day_before, day_before))
    journal = Journal(tmp_path)
    assert "result" not in journal
    assert not journal.is_repeat(WHOLE)
    assert list(tmp_path.iterdir()) == []


def test_a_result_has_the_same_uids_whenever_it_is_made(tmp_path: Path) -> None:
    """They depend on the instances and the model, and the name of a result can be read from its UID."""
    names = Names(site_secret(tmp_path / "node"))
    name = names.result(WHOLE)
    assert Names(site_secret(tmp_path / "node")).result(WHOLE) == name
    assert names.result(segmented({"a": ("1", "2")})) != name
    assert names.result(segmented({"a": ("1", "2", "3")}, model="other")) != name
    series, instance = names.uids_of(name)
    assert series != instance
    assert Names.result_of(instance) == name
    assert Names.result_of("1.2.840.1") == Names.result_of("2.25.x") == Names.result_of("2.25.²") == ""


def test_names_do_not_tell_what_they_stand_for(tmp_path: Path) -> None:
    """Two sites name one instance differently."""
    one = InstanceIdentity(study="1.2", series="1.3", instance="1.4", sop_class="1.5", syntax="1.6")
    first, second = (Names(site_secret(tmp_path / name / "node")) for name in ("a", "b"))
    assert first.of(one) == Names(site_secret(tmp_path / "a" / "node")).of(one) != second.of(one)
