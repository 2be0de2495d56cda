"""The table of codes that a person writes, the bundle that keeps it, and the table that ships."""

import re
from pathlib import Path

import pytest

from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.revise import write_segments
from unetpipe.bundle.segment_codes import read_segment_codes
from unetpipe.config.package import PackageConfig
from unetpipe.errors import BundleError
from unetpipe.imaging.dicom.derived.structures import code_of_structure
from unetpipe.stages.package import package

DOCS = Path(__file__).parents[2] / "docs" / "dicom.md"
LIVER = "liver: {type: {value: 10200004, meaning: Liver}}\n"


def test_the_table_of_the_docs_can_be_read(tmp_path: Path) -> None:
    """As it stands there, with the codes that it says."""
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "segments.yaml").write_text(block)
    codes = read_segment_codes(tmp_path / "segments.yaml")
    assert codes["Anterior"].rgb == (0x20, 0xB2, 0xAA)
    assert codes["tumour"].region is not None
    assert codes["tumour"].region.meaning == "Liver"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("liver: {}", r"segments.yaml: liver.type: Field required"),
        ("liver: {type: {value: 1, meaning: a}, colour: red}", r"liver.colour: .*'#dd8265', in quotes"),
        ("liver: {type: {value: 1, meaning: a}, laterality: up}", r"liver.laterality: .*'left', 'right' or 'both'"),
        ("liver: {type: {value: 12345678901234567, meaning: a}}", r"liver.type.value: .*at most 16"),
        ("liver: {type: {value: 1, meaning: 'a\\b'}}", r"liver.type.meaning"),
        ("liver: {kind: {value: 1, meaning: a}}", r"liver.kind: Extra inputs"),
        ("[liver]", r"segments.yaml: .*dictionary"),
        ("liver: {", r"segments.yaml is not YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, reason: str) -> None:
    """By class and key, in one line each."""
    (tmp_path / "segments.yaml").write_text(text)
    with pytest.raises(BundleError, match=reason):
        read_segment_codes(tmp_path / "segments.yaml")


def test_a_bundle_keeps_the_table(bundle_folder: Path, tmp_path: Path) -> None:
    """With the next version where it is another one; a name that is no class is refused, and nothing is changed."""
    table = tmp_path / "segments.yaml"
    table.write_text(LIVER)
    for _ in range(2):
        assert package(PackageConfig(model=bundle_folder, segments=table)).passed
        bundle = read_bundle(bundle_folder)
        assert bundle.spec.segments["liver"].type.value == "10200004"
        assert (bundle.version, bundle.release.changelog["0.2.0"]) == ("0.2.0", "changed: segments")
    table.write_text(LIVER + "livre: {type: {value: 10200004, meaning: Liver}}\n")
    with pytest.raises(BundleError, match="livre: no class or region of the model; expected liver, spleen"):
        write_segments(bundle_folder, read_segment_codes(table))
    assert read_bundle(bundle_folder).version == "0.2.0"


def test_structures_are_known_in_any_spelling() -> None:
    """Case and separators do not count; parts of names do."""
    for name in ("kidney_left", "Kidney Left", "kidney-LEFT"):
        code = code_of_structure(name)
        assert code is not None
        assert (code.type.value, code.laterality) == ("64033007", "left")
    cyst = code_of_structure("kidney cyst right")
    assert cyst is not None
    assert cyst.region is not None
    assert (cyst.category.value, cyst.region.meaning, cyst.laterality) == ("49755003", "Kidney", "right")
    assert code_of_structure("left kidney") is None
    assert code_of_structure("vertebrae_L9") is None
