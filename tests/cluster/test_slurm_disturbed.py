"""What a cluster does to work in progress, on a real Slurm: the results are those of undisturbed work."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest

from unetpipe.cluster.config import SubmissionConfig, SubmitConfig
from unetpipe.cluster.control import SubmissionStatus, show_status

Until = Callable[[Callable[[], object]], None]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _in_a_folder(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm.is_file()
    monkeypatch.chdir(tmp_path)


def submit(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "unetpipe", "submit", *words], check=True, stdout=subprocess.DEVNULL)


def ended(number: int, until: Until) -> SubmissionStatus:
    """The status of a submission once it has ended."""
    config, which = SubmitConfig(command=("status",)), SubmissionConfig(number=number)
    until(lambda: all(task.has_ended for task in show_status(config, which).tasks))
    return show_status(config, which)


def test_a_disturbed_training_ends_as_an_undisturbed_one(
    work: Path, user_signal: Callable[[bool], None], preempt: Callable[[], None], until: Until
) -> None:
    """Preempted with Slurm's user signal and without, and at its time limit: the losses are the same to the end."""
    options = {"device": "cpu", "precision": "fp32", "epochs": 8, "iterations": 40, "tracking": "none"}
    command = ("train", str(work), *(word for name, value in options.items() for word in (f"--{name}", str(value))))
    for node, name in (("n2", "undisturbed"), ("n1", "disturbed")):
        submit("--cpus", "2", "--minutes", "20", "--sbatch", f"nodelist={node}", *command, "--run-name", name)
    folders = {name: work / "runs" / name / "fold_0" for name in ("undisturbed", "disturbed")}
    said = Path("slurm/2/train.log")

    def goes_on() -> None:
        """Wait until the training has been started again, and has got through one more epoch."""
        restarts = said.read_text().count("goes on after epoch")
        before = len(losses(folders["disturbed"]))
        until(lambda: said.read_text().count("goes on after epoch") > restarts)
        until(lambda: len(losses(folders["disturbed"])) > before)

    until(lambda: losses(folders["disturbed"]))
    preempt()
    goes_on()
    user_signal(False)
    preempt()
    goes_on()
    job = json.loads(Path("slurm/2/submission.json").read_text())["ids"]["train"]
    end = datetime.now() + timedelta(seconds=170)
    subprocess.run(["scontrol", "update", f"jobid={job}", f"EndTime={end:%Y-%m-%dT%H:%M:%S}"], check=True)
    subprocess.run(["scancel", "--signal=USR2", job], check=True)  # as Slurm would when it next looks at time limits
    for number in (1, 2):
        assert not ended(number, until).failed
    assert losses(folders["disturbed"]) == losses(folders["undisturbed"])
    assert len(losses(folders["disturbed"])) == options["epochs"]
    assert said.read_text().count("goes on after epoch") >= 3


def losses(bundle: Path) -> list[float]:
    """Loss of each epoch so far."""
    journal = bundle / "metrics.jsonl"
    return [json.loads(line)["loss"] for line in journal.read_text().splitlines()] if journal.is_file() else []


@pytest.fixture
def lose_node(slurm: Path, until: Until) -> Iterator[Callable[[str], None]]:
    """Kill slurmd and every process of a node, and let Slurm know that it is down; it is back after the test."""
    lost = []

    def lose(node: str) -> None:
        lost.append(node)
        os.kill(int((slurm.parent / "run" / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("SLURMD_NODENAME") == node:
                    parent = process.parent()  # None where it has just ended
                    if parent is not None and "slurmstepd" in parent.name():
                        parent.kill()
                    process.kill()
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=lost"], check=True)

    yield lose
    for node in lost:
        pid = slurm.parent / "run" / f"slurmd-{node}.pid"
        pid.unlink()  # of the one that was killed
        subprocess.run(["slurmd", "-f", slurm, "-N", node], check=True)
        until(pid.is_file)
        with (slurm.parent / "pids").open("a") as pids:
            pids.write(f"slurmd-{node} {pid.read_text().strip()}\n")
        # refused where the controller has already heard of the new slurmd, and taken the node back by itself
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)
        until(lambda one=node: _output("sinfo", "--noheader", f"--nodes={one}", "--format=%T").startswith("idle"))


def _output(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_shards_outlive_their_node(
    bundle_folder: Path, tmp_path: Path, lose_node: Callable[[str], None], until: Until
) -> None:
    """A node dies in the middle of its shard: another one segments the rest, and one predictions.json has all scans."""
    scans, labels, count = tmp_path / "scans", tmp_path / "labels", 9
    scans.mkdir()
    for case in range(count):
        voxels = np.random.default_rng(case).normal(size=(36, 36, 36)).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), scans / f"scan_{case:02}.nii.gz")
    infer = ("infer", str(bundle_folder), str(scans), "--out", str(labels), "--device", "cpu", "--step", "0.125")
    submit("--cpus", "2", "--array", "3", *infer)
    job = json.loads(Path("slurm/1/submission.json").read_text())["ids"]["infer"]
    until(lambda: len(_output("squeue", "--noheader", "--states=running", "--format=%i").split()) == 3)
    shard = int(_output("squeue", "--noheader", "--nodelist=n2", "--format=%i").removeprefix(f"{job}_"))
    mine = [labels / f"scan_{case:02}.nii.gz" for case in range(shard - 1, count, 3)]
    until(mine[0].is_file)
    lose_node("n2")
    assert not mine[-1].is_file(), "the shard was done before its node died"
    status = ended(1, until)
    assert [task.state for task in status.tasks] == ["completed"] * 4
    merged = {case["id"]: case for case in json.loads((labels / "predictions.json").read_text())["cases"]}
    assert list(merged) == [f"scan_{case:02}" for case in range(count)]
    assert merged[f"scan_{shard - 1:02}"]["status"] == "existing"
    assert {path.name for path in labels.glob("*.nii.gz")} == {case["output"] for case in merged.values()}


def test_a_rank_that_fails_before_the_meeting_ends_the_others(work: Path, tmp_path: Path, until: Until) -> None:
    """Slurm ends the other rank at once: it does not wait until the time of the meeting is over."""
    program = tmp_path / "unetpipe"
    program.write_text(f'#!/bin/bash\n((SLURM_PROCID == 1)) && exit 3\nexec {sys.executable} -m unetpipe "$@"\n')
    program.chmod(0o755)
    submit("--nodes", "2", "--program", str(program), "train", str(work), "--device", "cpu", "--tracking", "none")
    assert ended(1, until).failed
    said = Path("slurm/1/train.log").read_text()
    assert "Exited with exit code 3" in said
    assert "did not meet" not in said
