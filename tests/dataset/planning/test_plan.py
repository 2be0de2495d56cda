"""The plan as a file that people edit."""

from pathlib import Path

import pytest
import yaml

from unetpipe.dataset.planning.plan import Configuration, Plan, plan_text, read_plan
from unetpipe.errors import PlanError
from unetpipe.imaging.preprocessing import ChannelNormalization

PLAN = Plan(
    default="3d_fullres",
    normalization=(
        ChannelNormalization(scheme="ct", mean=1e-5, std=0.1 + 0.2, lower=-100, upper=1e22),
        ChannelNormalization(scheme="zscore"),
    ),
    configurations={
        "3d_fullres": Configuration(
            spacing_mm=(0.7988280057907104, 1.0, 1e-07),
            interpolation=("cubic", "linear", "nearest"),
            median_shape=(100, 90, 80),
            patch_size=(48, 64, 64),
            batch_size=2,
            strides=((1, 1, 1), (1, 2, 2)),
            kernel_sizes=((1, 3, 3), (3, 3, 3)),
            features=(32, 64),
            encoder_blocks=(1, 3),
        )
    },
)


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = plan_text(PLAN)
    assert text.count(old) == 1
    (tmp_path / "plan.yaml").write_text(text.replace(old, new))
    return tmp_path


def test_round_trip(tmp_path: Path) -> None:
    """Every number comes back exactly, the ones that YAML has trouble with included."""
    (tmp_path / "plan.yaml").write_text(plan_text(PLAN))
    assert read_plan(tmp_path) == PLAN


def test_plain_network_round_trip(tmp_path: Path) -> None:
    """A plan without residual blocks says so in the file."""
    plain = PLAN.configurations["3d_fullres"].model_copy(update={"encoder_blocks": None})
    plan = PLAN.model_copy(update={"configurations": {"3d_fullres": plain}})
    (tmp_path / "plan.yaml").write_text(plan_text(plan))
    assert "encoder_blocks: null" in (tmp_path / "plan.yaml").read_text()
    assert read_plan(tmp_path) == plan


def test_every_key_is_explained() -> None:
    """Each key of a configuration has a comment above it."""
    lines = plan_text(PLAN).splitlines()
    for key in Configuration.model_fields:
        at = next(number for number, line in enumerate(lines) if line.strip().startswith(f"{key}:"))
        assert lines[at - 1].strip().startswith("# ")


def test_text_is_plain_yaml() -> None:
    """Any YAML reader reads the file."""
    content = yaml.safe_load(plan_text(PLAN))
    assert content["configurations"]["3d_fullres"]["patch_size"] == [48, 64, 64]
    assert isinstance(content["normalization"][0]["mean"], float)


def test_edits_are_noticed(tmp_path: Path) -> None:
    """A plan as made is not edited; after a change of one number it is."""
    (tmp_path / "plan.yaml").write_text(plan_text(PLAN.signed("abc")))
    assert not read_plan(tmp_path).is_edited
    text = (tmp_path / "plan.yaml").read_text()
    (tmp_path / "plan.yaml").write_text("# a note of mine\n" + text)
    assert not read_plan(tmp_path).is_edited
    (tmp_path / "plan.yaml").write_text(text.replace("batch_size: 2", "batch_size: 3"))
    assert read_plan(tmp_path).is_edited


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size: 2", "batch_size: 0", r"configurations\.3d_fullres\.batch_size: .*at least 1, got 0"),
        ("batch_size: 2", "batch_size: two", r"configurations\.3d_fullres\.batch_size: .*got 'two'"),
        ("batch_size: 2", "batchsize: 2", r"configurations\.3d_fullres\.batchsize: Extra inputs"),
        ("[48, 64, 64]", "[48, 64, 65]", r"patch_size\[2\] is 65, but the strides need a multiple of 2"),
        ("[48, 64, 64]", "[48, 64]", r"spacing_mm has 3 axes, patch_size has 2"),
        ("features: [32, 64]", "features: [32]", r"strides has 2 stages, features has 1"),
        ("[cubic, linear, nearest]", "[cubic, lanczos, nearest]", r"interpolation\.1: .*got 'lanczos'"),
        ('default: "3d_fullres"', "default: 3d_low", r"default is '3d_low', but configurations are"),
        ("encoder_blocks: [1, 3]", "encoder_blocks: [1]", r"encoder_blocks should have 2 positive numbers, got \[1\]"),
        ("[1, 2, 2]", "[1, 0, 2]", r"strides should have 3 positive numbers per stage"),
        ("batch_size: 2", "batch_size: [2", r"plan.yaml is not YAML"),
        ("batch_size: 2", "batch_size: 4\n    batch_size: 2", r"plan.yaml has the key 'batch_size' twice, in lines"),
        ("[0.7988280057907104,", "[.nan,", r"spacing_mm: .*expected positive numbers, got \[nan"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    """The error names the key of a mistake, what was expected and what was found."""
    with pytest.raises(PlanError, match=message):
        read_plan(edited(tmp_path, old, new))


def test_missing(tmp_path: Path) -> None:
    """Without a plan the message says what makes one."""
    with pytest.raises(PlanError, match="run `unetpipe preprocess"):
        read_plan(tmp_path)


def test_unknown_configuration() -> None:
    """Asking for a configuration that is not there names those that are."""
    with pytest.raises(PlanError, match="no configuration 'x', only 3d_fullres"):
        PLAN.preprocessing("x")


def test_steps_round_trip(tmp_path: Path) -> None:
    """Definitions of any depth and text come back as they were; none at all is a list of none."""
    steps = ("normalize", {"_target_": "monai.transforms.Flipd", "spatial_axis": [0, 1], "note": 'say "5" # {a: b}'})
    for some in (steps, ()):
        plan = PLAN.model_copy(update={"steps": some})
        (tmp_path / "plan.yaml").write_text(plan_text(plan))
        assert read_plan(tmp_path) == plan


def test_plans_that_are_older_than_steps_keep_their_checksum(tmp_path: Path) -> None:
    """A plan.yaml without the key is still the planner's own, and one with other steps is edited."""
    signed = PLAN.signed("basis")
    assert signed.checksum == "9034ba2ae53ee4cc"  # as it was before there were steps
    text = "\n".join(line for line in plan_text(signed).splitlines() if line not in ("steps:", "  - normalize"))
    (tmp_path / "plan.yaml").write_text(text)
    assert read_plan(tmp_path) == signed
    assert not read_plan(tmp_path).is_edited
    assert signed.model_copy(update={"steps": ()}).is_edited
