"""The table of segments that a person writes: codes of a model's classes in DICOM outputs."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import RootModel, ValidationError

from unetpipe.documents import explain
from unetpipe.errors import BundleError
from unetpipe.imaging.dicom.derived.codes import SegmentCode
from unetpipe.yaml_text import YamlError, read_yaml


class _Table(RootModel[dict[str, SegmentCode]]):
    """Codes by the name of a class or region."""


def read_segment_codes(path: Path) -> Mapping[str, SegmentCode]:
    """Read the codes of classes from a YAML file.

    Returns:
        Codes by the name of a class or region.

    Raises:
        BundleError: If the file is missing, no YAML, or a code in it cannot be used; names each offending key.
    """
    try:
        return _Table.model_validate(read_yaml(path)).root
    except YamlError as error:
        raise BundleError(f"{path.name} {error}") from error
    except ValidationError as error:
        raise BundleError(explain(path.name, error)) from error
