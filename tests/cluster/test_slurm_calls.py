"""How Slurm's commands are called, with others in their place."""

import os
from pathlib import Path

import pytest

from unetpipe.cluster.config import Resources
from unetpipe.cluster.jobs import Job
from unetpipe.cluster.slurm import submit_jobs
from unetpipe.cluster.submission import new_submission
from unetpipe.errors import ClusterError


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for Slurm's commands, first on the PATH; sbatch writes its environment down there."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    command(tmp_path / "sbatch", 'env >"$0.env"; echo 7')
    return tmp_path


def command(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def submit(folder: Path, *jobs: tuple[str, Resources]) -> None:
    submit_jobs(new_submission("slurm", tuple(Job(name=n, command=("x",), resources=r) for n, r in jobs)), folder)


@pytest.mark.parametrize(
    ("resources", "kept"),
    [
        (Resources(), {"SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_MEM_PER_NODE"}),
        (Resources(partition="gpu"), {"SBATCH_ACCOUNT", "SBATCH_MEM_PER_NODE"}),
        (Resources(memory_gb=4), {"SBATCH_ACCOUNT", "SBATCH_PARTITION"}),
        (Resources(sbatch={"account": "lab"}), {"SBATCH_PARTITION", "SBATCH_MEM_PER_NODE"}),
    ],
)
def test_variables_do_not_override_what_a_script_says(
    commands: Path, monkeypatch: pytest.MonkeyPatch, resources: Resources, kept: set[str]
) -> None:
    """Slurm would let those of sbatch win over the options in it; an account, and what no option says, counts.

    One of them would have sbatch wait for the job's end.
    """
    names = ("ARRAY_INX", "TIMELIMIT", "NO_REQUEUE", "GPUS", "GPUS_PER_TASK", "WAIT")
    for name in (*names, "ACCOUNT", "PARTITION", "MEM_PER_NODE"):
        monkeypatch.setenv(f"SBATCH_{name}", "1")
    monkeypatch.setenv("GPUS", "1")
    submit(commands, ("train", resources))
    found = {line.partition("=")[0] for line in (commands / "sbatch.env").read_text().splitlines()}
    assert {name for name in found if name.startswith("SBATCH_")} == kept
    assert "GPUS" in found


def test_jobs_that_cannot_be_taken_back_are_named(commands: Path) -> None:
    """After the reason why another one was refused, which is what a person has to mend."""
    command(commands / "sbatch", '[[ $* == *second.sh ]] || exec echo 7; echo "invalid partition" >&2; exit 1')
    command(commands / "scancel", 'echo "no contact" >&2; exit 1')
    with pytest.raises(ClusterError) as caught:
        submit(commands, ("first", Resources()), ("second", Resources()))
    assert str(caught.value) == (
        "Slurm's sbatch failed: invalid partition; Slurm's scancel failed: no contact; still queued: 7"
    )
