"""Which model segments a study: the first rule of ``rules.yaml`` that one of its series meets.

    - series: Modality=CT,BodyPartExamined=ABDOMEN,SeriesDescription~portal
      model: bundles/liver
    - series: Modality=MR,SeriesDescription~t1
      model: bundles/brain
      phase: 1
    - series: Modality~CR|DX
      model: null

`series` is written as for ``--series``, and also chooses the series that is segmented. A rule without it takes the only
volume of a study. Studies that meet a rule whose model is null are forgotten.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from unetpipe.documents import Record, explain
from unetpipe.errors import ImageFileError, ServiceError
from unetpipe.yaml_text import YamlError, read_yaml


class Rule(Record):
    """A model and the volumes that it segments.

    Attributes:
        series: Rule for series, such as ``Modality=MR,SeriesDescription~t1``; None for the only one that holds a
            volume.
        phase: Number of the volume in its series, where there are several.
        fix_geometry: Mend what is wrong with a volume's geometry, as `DicomOptions` says.
        model: Model as `unetpipe infer` takes it, its path relative to the folder of the rules; None to segment
            nothing.
    """

    series: str | None = None
    phase: Annotated[int, Field(ge=1)] | None = None
    fix_geometry: bool = False
    model: Path | None

    @field_validator("series")
    @classmethod
    def _names_attributes(cls, series: str | None) -> str | None:
        from unetpipe.imaging.dicom.choice import keywords_of  # pydicom

        try:
            if series is not None:
                keywords_of(series)
        except ImageFileError as error:
            raise ValueError(str(error).removeprefix("--series: ")) from None
        return series


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read rules.yaml.

    Raises:
        ServiceError: If it cannot be read, has no rule, or a rule is not right; names each offending key.
    """
    try:
        rules = TypeAdapter(tuple[Rule, ...]).validate_python(read_yaml(path))
    except YamlError as error:
        raise ServiceError(f"--rules: {path} {error}") from error
    except ValidationError as error:
        raise ServiceError(explain(path.name, error)) from error
    if not rules:
        raise ServiceError(f"{path.name}: expected a list of rules, got an empty one")
    return tuple(rule.model_copy(update={"model": _placed(rule.model, path.parent)}) for rule in rules)


def _placed(model: Path | None, folder: Path) -> Path | None:
    """A path relative to the folder of the rules as it is from here; names of models stay as they are."""
    return folder / model if model is not None and (folder / model).exists() else model


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
