"""Files of the work folder that do not hold what they should."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError, field_validator

import unetpipe
from unetpipe.documents import Record, explain, first_fault, read_document
from unetpipe.errors import PlanError


class Voxels(Record):
    places: list[int]

    @field_validator("places")
    @classmethod
    def _rises(cls, places: list[int]) -> list[int]:
        if places != sorted(places):
            raise ValueError(f"expected places that rise, got {places}")
        return places


def test_what_does_not_fit_is_told_in_a_few_lines(tmp_path: Path) -> None:
    """The file, the key and what was found; a thousand bad items do not make a thousand lines."""
    path = tmp_path / "voxels.json"
    path.write_text('{"places": [' + ", ".join(["[1, 2]"] * 1000) + "]}")
    with pytest.raises(PlanError) as error:
        read_document(path, Voxels)
    lines = str(error.value).splitlines()
    assert lines[0] == "voxels.json: places.0: Input should be a valid integer, got [1, 2]"
    assert lines[-1] == "voxels.json: and 995 more"
    assert len(lines) == 6


def test_what_a_validator_says_is_told_in_its_own_words() -> None:
    """Nothing stands before it, and the key is beside it."""
    with pytest.raises(ValidationError) as error:
        Voxels(places=[2, 1])
    assert first_fault(error.value) == ("places", "expected places that rise, got [2, 1]")
    assert "Value error" not in explain("voxels.json", error.value)


def test_no_message_begins_with_words_of_pydantic() -> None:
    """Only the module that leaves "Value error" out reads what pydantic says."""
    package = Path(unetpipe.__file__).parent
    reads = [file.name for file in package.rglob("*.py") if re.search(r"""\[["']msg["']\]""", file.read_text())]
    assert reads == ["documents.py"]
