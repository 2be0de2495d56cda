"""The worked examples for other engines: Kubernetes takes the manifests, Snakemake runs, every command parses."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from unetpipe.cli import app
from unetpipe.cli.app import _CONFIGS
from unetpipe.cli.parse import check_command

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
MANIFESTS = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
WORKFLOWS = [EXAMPLES / "snakemake" / "Snakefile", EXAMPLES / "nextflow" / "main.nf"]


def _spec(manifest: Path) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(manifest.read_text(encoding="utf-8"))["spec"]
    return spec


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_takes_the_manifests(manifest: Path) -> None:
    """Every field is one that Kubernetes knows, with a value that it takes; the schemas come with the validator."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    document = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_manifests_call_commands_that_exist(manifest: Path) -> None:
    """What a container runs parses, with every option that it names."""
    (container,) = _spec(manifest)["template"]["spec"]["containers"]
    words = container["args"]
    if "command" in container:
        words = shlex.split(words[0].replace("$((JOB_COMPLETION_INDEX + 1))", "1"))[2:]
    check_command(app, _CONFIGS, words)


def test_every_shard_has_an_index() -> None:
    """The number of completions is that of the shards, in the array and in the merge."""
    spec = _spec(EXAMPLES / "kubernetes" / "infer.yaml")
    (inferring,) = spec["template"]["spec"]["containers"]
    (merging,) = _spec(EXAMPLES / "kubernetes" / "merge.yaml")["template"]["spec"]["containers"]
    assert inferring["args"][0].endswith(f'/{spec["completions"]}"')
    assert merging["args"][-1] == str(spec["completions"])


def _commands(workflow: Path) -> Iterator[list[str]]:
    """The words of each command, without further options, and with a number in place of every other variable."""
    for text in re.findall(r'"unetpipe ([^"]+)"', workflow.read_text(encoding="utf-8")):
        text = re.sub(r"\$?\{(config\[train\]|params\.train|OTHERS)\}", "", text)
        yield shlex.split(re.sub(r"\$?\{(?:[^{}']|'[^']*')*\}", "2", text))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_commands_that_exist(workflow: Path) -> None:
    """From preprocessing to inference, with every option that they name."""
    commands = list(_commands(workflow))
    assert {words[0] for words in commands} == {"preprocess", "train", "evaluate", "infer"}
    for words in commands:
        check_command(app, _CONFIGS, words)


@pytest.mark.slow
def test_snakemake_runs_the_workflow(balls: Path, tmp_path: Path) -> None:
    """Two folds, the report, and the labels of both models together; called again, there is nothing to do."""
    snakemake = os.environ.get("UNETPIPE_SNAKEMAKE") or shutil.which("snakemake")
    if not snakemake:
        pytest.skip("snakemake is not on the PATH, and UNETPIPE_SNAKEMAKE names none")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "unetpipe"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m unetpipe "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}"}
    train = "train=--epochs 1 --iterations 2 --device cpu"
    workflow = [snakemake, "--snakefile", str(WORKFLOWS[0]), "--cores", "2"]
    config = ["--config", f"dataset={balls}", f"scans={balls / 'imagesTr'}", "folds=2", train]
    said = []
    for _ in range(2):
        done = subprocess.run(
            [*workflow, *config], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stderr)
    assert (tmp_path / "report" / "report.html").is_file()
    assert len(list((tmp_path / "labels").glob("*.nii.gz"))) == 6
    assert "Nothing to be done" in said[1]
