"""What the docs say about changing the recipe works as it stands there."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from unetpipe.cli import app

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHORT = ["--epochs", "1", "--iterations", "1", "--device", "cpu", "--precision", "fp32", "--tracking", "none"]


def blocks(page: str, heading: str, language: str) -> list[str]:
    """Code blocks of a section, up to the next heading of its level."""
    text = (DOCS / page).read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section is not None
    return re.findall(rf"```{language}\n(.*?)```", section.group(1), re.DOTALL)


def train(work: Path, words: list[str], run: str) -> None:
    """Run a command of the docs on the test's work folder, for one step."""
    assert words[:3] == ["unetpipe", "train", "work"]
    result = CliRunner().invoke(app, ["train", str(work), *words[3:], *SHORT, "--run-name", run])
    assert result.exit_code == 0, f"{shlex.join(words)}: {result.output}"


def test_the_examples_of_changing_the_recipe(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command trains, and so does the YAML file, with all that it names."""
    monkeypatch.chdir(tmp_path)
    (commands,) = blocks("training.md", "Changing the recipe", "sh")
    for number, line in enumerate(commands.splitlines()):
        train(work, shlex.split(line), f"typed_{number}")
    (recipe,) = blocks("training.md", "Changing the recipe", "yaml")
    Path("recipe.yaml").write_text(recipe)
    train(work, ["unetpipe", "train", "work", "--config", "recipe.yaml"], "written")
    kept = yaml.safe_load((work / "runs" / "written" / "fold_0" / "config.yaml").read_text())
    assert {name: kept[name] for name in yaml.safe_load(recipe)} == yaml.safe_load(recipe)


@pytest.mark.parametrize("part", ["Loss", "Network", "Optimiser and schedule", "Augmentation step"])
def test_the_examples_of_extending(part: str, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of each section, in a file of its own, makes the section's command train."""
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("extending.md", part, "python")
    Path("lab.py").write_text(code)
    (command,) = blocks("extending.md", part, "sh")
    train(work, shlex.split(command), "extended")


def test_the_example_of_a_preprocessing_step(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The section's Python makes its command preprocess, and what that made can be trained on and inferred with."""
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("extending.md", "Preprocessing step", "python")
    Path("lab.py").write_text(code)
    (command,) = blocks("extending.md", "Preprocessing step", "sh")
    words = shlex.split(command)
    assert words[:5] == ["unetpipe", "preprocess", "data", "--out", "work"]
    extension = ["--extension", "lab.py"]
    scan = next((balls / "imagesTr").glob("*.nii.gz"))
    for line in (
        ["preprocess", str(balls), *words[3:], "--no-preview"],
        ["train", "work", *extension, *SHORT],
        ["infer", "work/runs/default/fold_0", str(scan), "--out", "labels", "--device", "cpu", *extension],
    ):
        result = CliRunner().invoke(app, line)
        assert result.exit_code == 0, f"{shlex.join(line)}: {result.output}"
    assert (tmp_path / "labels" / scan.name).is_file()
    assert "by `signed_root`, which an extension" in Path("work/runs/default/fold_0/docs/README.md").read_text()


def test_the_examples_of_preprocessing_steps(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the page runs."""
    monkeypatch.chdir(tmp_path)
    (commands,) = blocks("data.md", "Preprocessing steps", "sh")
    for number, line in enumerate(commands.replace("\\\n", " ").splitlines()):
        words = shlex.split(line)
        assert words[:5] == ["unetpipe", "preprocess", "data", "--out", "work"]
        call = ["preprocess", str(balls), "--out", f"work_{number}", *words[5:], "--no-preview"]
        result = CliRunner().invoke(app, call)
        assert result.exit_code == 0, f"{line}: {result.output}"
