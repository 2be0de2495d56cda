"""Which model segments a study: the first rule of ``rules.yaml`` that one of its series meets.

    - series: Modality=CT,BodyPartExamined=ABDOMEN,SeriesDescription~portal
      model: bundles/liver
    - series: Modality=MR,SeriesDescription~t1
      model: bundles/brain
      phase: 1

`series` is written as for ``--series``, and also chooses the series that is segmented. A rule without it takes the only
volume of a study.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from unetpipe.documents import explain
from unetpipe.errors import ServiceError
from unetpipe.imaging.dicom.options import DicomOptions


class Rule(DicomOptions):
    """A model and the volumes that it segments.

    Attributes:
        model: Bundle folder or zip, or the folder of a run with several folds; in a file relative to its folder.
    """

    model: Path


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read rules.yaml.

    Raises:
        ServiceError: If it cannot be read, has no rule, or a rule is not right; names each offending key.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        rules = TypeAdapter(tuple[Rule, ...]).validate_python(given)
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"--rules: cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        raise ServiceError(f"--rules: {path} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ServiceError(explain(path.name, error)) from error
    if not rules:
        raise ServiceError(f"{path.name}: expected a list of rules, got an empty one")
    return tuple(rule.model_copy(update={"model": path.parent / rule.model}) for rule in rules)


def rule_for(study: Path, rules: Sequence[Rule]) -> Rule | None:
    """The first rule that a series of a study meets; None where there is none.

    Args:
        study: Folder of the study.
        rules: Rules in their order.

    Raises:
        ImageFileError: If no image of the study can be read.
    """
    from unetpipe.imaging.dicom.choice import first_met  # pydicom

    met = first_met(study, [rule.series for rule in rules])
    return None if met is None else rules[met]
