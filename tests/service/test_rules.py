"""Rules choose the model of a study by its series' attributes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from unetpipe.errors import ServiceError
from unetpipe.service.rules import read_rules, rule_for

WriteStudy = Callable[..., list[Path]]

RULES = """
- series: Modality=CT,BodyPartExamined=ABDOMEN,SeriesDescription~portal
  model: liver
- series: Modality=MR,SeriesDescription~t1
  model: models:/brain@champion
  phase: 1
- series: Modality=CT
  model: body
"""


@pytest.mark.parametrize(
    ("modality", "attributes", "model"),
    [
        ("CT", {"BodyPartExamined": "ABDOMEN", "SeriesDescription": "1.5 Portal venous"}, "liver"),
        ("CT", {"BodyPartExamined": "CHEST", "SeriesDescription": "portal"}, "body"),
        ("MR", {"SeriesDescription": "ax T1 post"}, "brain@champion"),
        ("MR", {"SeriesDescription": "ax T2"}, None),
    ],
)
def test_the_first_rule_that_is_met_counts(
    modality: str, attributes: dict[str, str], model: str | None, write_study: WriteStudy, tmp_path: Path
) -> None:
    """All conditions of a rule must hold; a study that meets none has no model."""
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "liver").mkdir()
    write_study(tmp_path / "study", 1, modality=modality, **attributes)
    rules = read_rules(tmp_path / "rules.yaml")
    assert rules[0].model == tmp_path / "liver"
    assert rules[1].model == Path("models:/brain@champion")
    found = rule_for(tmp_path / "study", rules)
    assert (found.model.name if found else None) == model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a list of rules, got an empty one"),
        ("- series: Modality\n  model: a", "0.series: expected the number of a series"),
        ("- series: Modalty=CT\n  model: a", "0.series: DICOM has no attribute Modalty"),
        ("- serie: Modality=CT\n  model: a", "0.serie: Extra inputs"),
        ("- series: Modality=CT", "0.model: Field required"),
        ("- [", "is not YAML"),
        ("5", "rules.yaml"),
    ],
)
def test_wrong_rules_are_named(text: str, message: str, tmp_path: Path) -> None:
    """The error names the rule and its key."""
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(ServiceError, match=message):
        read_rules(tmp_path / "rules.yaml")
