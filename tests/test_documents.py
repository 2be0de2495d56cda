"""Files of the work folder that do not hold what they should."""

from pathlib import Path

import pytest

from unetpipe.documents import Record, read_document
from unetpipe.errors import PlanError


class Voxels(Record):
    places: list[int]


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
