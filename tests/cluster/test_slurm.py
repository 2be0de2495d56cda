"""Our own commands as jobs of a real Slurm."""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unetpipe.cluster.config import Resources, SubmissionConfig, SubmitConfig
from unetpipe.cluster.control import retry, show_status
from unetpipe.cluster.jobs import Array, Job
from unetpipe.cluster.slurm import _queued
from unetpipe.cluster.submit import Scripts, SubmitResult, submit_jobs
from unetpipe.config.train import TrainConfig
from unetpipe.errors import ClusterError
from unetpipe.progress import SilentProgress
from unetpipe.stages.train import TrainResult, train

SHORT = ("--device", "cpu", "--precision", "fp32", "--iterations", "3", "--augmentation", "none")


@pytest.fixture(autouse=True)
def _in_a_folder(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm.is_file()
    monkeypatch.chdir(tmp_path)


def submit(*jobs: Job) -> SubmitResult:
    result = submit_jobs(SubmitConfig(command=("x",), cluster="auto", wait=True), jobs)
    assert isinstance(result, SubmitResult)
    return result


def unetpipe(*words: str, code: int = 0) -> str:
    """Run a command line; gives what it prints."""
    ended = subprocess.run([sys.executable, "-m", "unetpipe", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    return ended.stdout + ended.stderr


def test_an_array_gives_each_task_s_exit_code(logged: list[str]) -> None:
    """On Slurm each task is one of an array; the failed one's code comes back, the other's output is there."""
    program = Resources(program="bash -c", cpus=1)
    array = Array(option="-", tasks=(0, 2))
    result = submit(Job(name="train", command=("echo task $1; exit $1",), resources=program, array=array))
    assert result.cluster == "slurm"
    assert [task.exit_code for task in result.tasks] == [0, 2]
    assert result.exit_code == 2
    assert result.tasks[0].log.read_text() == "task 0\n"
    assert "train_2 has failed with exit code 2; the end of its output:" in logged
    assert len({task.id.split("_")[0] for task in result.tasks}) == 1


def test_a_folder_may_have_a_percent_sign() -> None:
    """Slurm writes the output there, and takes no part of its name for a pattern."""
    job = Job(name="train", command=("echo here",), resources=Resources(program="bash -c", cpus=1))
    result = submit_jobs(SubmitConfig(command=("x",), logs=Path("50%a"), wait=True), [job])
    assert isinstance(result, SubmitResult)
    assert result.tasks[0].log.read_text() == "here\n"


def test_accounting_knows_what_the_controller_has_forgotten(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The states of a submission are the same where only Slurm's database still has its jobs."""
    if "accounting_storage/slurmdbd" not in slurm.read_text():
        pytest.skip("accounting needs slurmdbd and mariadbd")
    program = Resources(program="bash -c", cpus=1)
    array = Array(option="-", tasks=(0, 2))
    submit(
        Job(name="train", command=("exit $1",), resources=program, array=array),
        Job(name="evaluate", command=("true",), resources=program, after=("train",)),
    )
    last = SubmitConfig(command=("status",)), SubmissionConfig()
    known = [task.state for task in show_status(*last).tasks]
    assert known == ["completed", "failed", "cancelled"]
    monkeypatch.setattr("unetpipe.cluster.slurm._queued", lambda _ids: {})
    deadline = time.monotonic() + 60  # the database learns of the ends some seconds later
    while [task.state for task in show_status(*last).tasks] != known and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [task.state for task in show_status(*last).tasks] == known


def test_what_slurm_has_forgotten_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without accounting, a job that was cancelled before it began is retried, but not while nobody answers."""
    program = Resources(program="bash -c", cpus=1)
    submit(
        Job(name="train", command=("exit 3",), resources=program),
        Job(name="evaluate", command=("true",), resources=program, after=("train",)),
    )
    last = SubmitConfig(command=("status",), dry_run=True), SubmissionConfig()
    monkeypatch.setattr("unetpipe.cluster.slurm._accounted", lambda _ids: {})
    with monkeypatch.context() as silent:
        silent.setattr("unetpipe.cluster.slurm._queued", lambda _ids: None)
        assert [task.state for task in show_status(*last).tasks] == ["failed", "unknown"]
        with pytest.raises(ClusterError, match="has not ended: 1 tasks wait or run"):
            retry(*last, SilentProgress())
    monkeypatch.setattr("unetpipe.cluster.slurm._queued", lambda _ids: {})
    assert [task.state for task in show_status(*last).tasks] == ["failed", "cancelled"]
    assert [task.exit_code for task in show_status(*last).tasks] == [3, 1]
    again = retry(*last, SilentProgress())
    assert isinstance(again, Scripts)
    assert "evaluate" in again.scripts
    monkeypatch.setenv("SBATCH_CLUSTERS", "another")
    assert [task.state for task in show_status(*last).tasks] == ["failed", "unknown"]


def test_of_one_forgotten_job_slurm_says_that_its_id_is_invalid() -> None:
    """The wording of the controller, which must be told apart from its silence."""
    assert _queued(["999999"]) == {}


def test_a_refusal_leaves_nothing_behind() -> None:
    """A partition that is not there is Slurm's refusal in one line; jobs submitted before it are cancelled."""
    fine = Job(name="first", command=("--version",), resources=Resources(sbatch={"begin": "now+1hour"}))
    refused = Job(name="second", command=("--version",), resources=Resources(partition="nowhere"), after=("first",))
    with pytest.raises(ClusterError, match="invalid partition"):
        submit(fine, refused)
    assert list(Path("slurm").iterdir()) == []
    waiting = subprocess.run(["squeue", "--noheader", "--format=%j"], capture_output=True, text=True, check=True)
    assert "unetpipe-first" not in waiting.stdout


@pytest.mark.slow
def test_a_pipeline_whose_first_job_fails_ends(balls: Path, tmp_path: Path) -> None:
    """Preprocessing finds a fault: no fold is trained, nothing waits for ever, and the status says why."""
    broken = Path(shutil.copytree(balls, tmp_path / "broken"))
    (broken / "labelsTr" / "ball_3.nii.gz").write_bytes(b"no label")
    pipeline = ("pipeline", str(broken), "--out", "work", "--preprocess", "folds=2", "--train", "device=cpu")
    said = unetpipe("submit", "--cpus", "1", "--wait", *pipeline, code=1)
    assert "ball_3" in said
    states = json.loads(unetpipe("submit", "--json", "status", code=1))["tasks"]
    assert {one["task"]: one["state"] for one in states} == {
        "preprocess": "failed",
        "train_0": "cancelled",
        "train_1": "cancelled",
        "evaluate": "cancelled",
        "bundle": "cancelled",
    }
    assert {one["reason"] for one in states[1:]} <= {"DependencyNeverSatisfied", "Dependency", ""}
    assert [path.name for path in Path("work").iterdir()] == ["mlflow.db"]
    with sqlite3.connect("work/mlflow.db") as store:
        assert store.execute("select name, status from runs").fetchall() == [("submission 1", "FAILED")]


@pytest.mark.slow
def test_a_pipeline_from_dataset_to_report(balls: Path, tmp_path: Path) -> None:
    """A fold on each of three nodes with a fresh store, the report, the ensemble, and shards that are merged.

    In the tracking store, which is made before the first job, all runs are part of the submission's.
    """
    options = [f"{name}={value}" for name, value in (("device", "cpu"), ("epochs", 1), ("iterations", 2))]
    train = [word for option in options for word in ("--train", option)]
    unetpipe(
        *("submit", "--cpus", "2", "--array", "2", "--wait", "pipeline", str(balls), "--out", "work"),
        *("--preprocess", "folds=3", "--scans", str(balls / "imagesTr"), "--infer", "device=cpu", *train),
    )
    assert (tmp_path / "work" / "report" / "report.html").is_file()
    assert (tmp_path / "work" / "runs" / "default" / "ensemble" / "configs" / "metadata.json").is_file()
    merged = json.loads((tmp_path / "work" / "labels" / "predictions.json").read_text())
    assert [case["id"] for case in merged["cases"]] == [f"ball_{k}" for k in range(6)]
    with sqlite3.connect(tmp_path / "work" / "mlflow.db") as store:
        runs = store.execute("select name, status from runs order by name").fetchall()
        (parent,) = store.execute("select run_uuid from runs where name = 'submission 1'").fetchone()
        children = store.execute("select value from tags where key = 'mlflow.parentRunId'").fetchall()
    names = ("cross-validation", "fold_0", "fold_1", "fold_2")
    assert runs == [*((f"default/{name}", "FINISHED") for name in names), ("submission 1", "FINISHED")]
    assert children == [(parent,)] * 4


@pytest.mark.slow
def test_two_nodes_train_as_one_process(work: Path) -> None:
    """A process on each of two nodes: the losses are those of a single process with the same batch."""
    config = TrainConfig(
        work=work,
        epochs=2,
        iterations=3,
        device="cpu",
        precision="fp32",
        augmentation="none",
        tracking="none",
        run_name="alone",
    )
    alone = train(config)
    assert isinstance(alone, TrainResult)
    epochs = ("--epochs", "2", "--tracking", "none", "--run-name", "together")
    unetpipe("submit", "--nodes", "2", "--cpus", "1", "--wait", "train", str(work), *SHORT, *epochs)
    losses = [_losses(bundle) for bundle in (alone.bundle, alone.bundle.parent.parent / "together" / "fold_0")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def _losses(bundle: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (bundle / "metrics.jsonl").read_text().splitlines()]
