"""The table of segments that a person writes: codes of a model's classes in DICOM outputs."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import RootModel, ValidationError

from unetpipe.documents import explain
from unetpipe.errors import BundleError
from unetpipe.imaging.dicom.derived.codes import SegmentCode


class _Table(RootModel[dict[str, SegmentCode]]):
    """Codes by the name of a class or region."""


def read_segments(path: Path) -> Mapping[str, SegmentCode]:
    """Read the codes of classes from a YAML file.

    Returns:
        Codes by the name of a class or region.

    Raises:
        BundleError: If the file is missing, no YAML, or a code in it cannot be used; names each offending key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _Table.model_validate(content).root
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path.name}: cannot be read") from error
    except yaml.YAMLError as error:
        raise BundleError(f"{path.name}: is no YAML") from error
    except ValidationError as error:
        raise BundleError(explain(path.name, error)) from error
