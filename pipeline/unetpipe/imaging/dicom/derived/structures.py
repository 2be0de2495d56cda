"""The codes of anatomical structures that are called as in TotalSegmentator, from a table that is shipped as data.

The table is `resources/structures.json`, whose key ``source`` says where names and codes come from.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from unetpipe.imaging.dicom.derived.codes import SegmentCode
from unetpipe.imaging.dicom.label_target import plain_name


def code_of_structure(name: str) -> SegmentCode | None:
    """The codes of a class that is called like a structure, in any case of letters and with any separators."""
    return _structures().get(plain_name(name))


@cache
def _structures() -> Mapping[str, SegmentCode]:
    table = files("unetpipe.imaging.dicom.derived") / "resources" / "structures.json"
    listed = json.loads(table.read_text(encoding="utf-8"))["structures"]
    return {plain_name(name): SegmentCode.model_validate(code) for name, code in listed.items()}
