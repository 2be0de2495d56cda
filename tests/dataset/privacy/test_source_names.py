"""What is said about a hidden case names none of its files."""

from pathlib import Path

import pytest

from unetpipe.dataset.manifest import Case
from unetpipe.dataset.privacy.source_names import SourceNames
from unetpipe.errors import DatasetError, Fault, GeometryError

HIDDEN = Case(
    id="case-0123456789abcdef", name="Muster", images=(Path("/d/Muster"),), label=Path("/d/labels/Muster.nii.gz")
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("label Muster.nii.gz does not exist", "label (name withheld) does not exist"),
        ("Muster: /d/Muster is empty", "case-0123456789abcdef: (name withheld) is empty"),
        ("Musterfrau and a_Muster stay", "Musterfrau and a_Muster stay"),
    ],
)
def test_names_are_replaced(text: str, expected: str) -> None:
    """Whole names only: of the case, its files and their paths."""
    assert SourceNames.of([HIDDEN]).hide(text) == expected


def test_cases_that_keep_their_names_are_said() -> None:
    """Nothing is replaced where no case has a pseudonym."""
    plain = HIDDEN.model_copy(update={"name": None})
    assert SourceNames.of([plain]).hide("label Muster.nii.gz") == "label Muster.nii.gz"


def test_errors_stay_what_they_are() -> None:
    """An error comes out as the same kind without the names, and without the one that has them."""
    names = SourceNames.of([HIDDEN])
    with pytest.raises(GeometryError, match=r"^\(name withheld\): bad$") as caught, names.hidden():
        raise GeometryError("Muster.nii.gz: bad")
    assert caught.value.__suppress_context__
    with pytest.raises(DatasetError, match=r"^case-0123456789abcdef: bad$"), names.hidden():
        raise DatasetError([Fault(case="Muster", kind="bad", message="bad")])
