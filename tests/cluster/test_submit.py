"""Commands run as jobs, on Slurm and without it, and their exit codes come back."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetpipe.cluster import submit as cluster
from unetpipe.cluster.submit import Command, CommandJob, SubmitResult, one_per_fold, submit
from unetpipe.config import SubmitConfig
from unetpipe.errors import ClusterError, TrainingError
from unetpipe.imaging.files import write_labels
from unetpipe.imaging.geometry import Grid

VERSION = ("--version",)
WRONG_USAGE = ("train",)  # without WORK: exit code 2 at once


def _submit(logs: Path, *commands: Command, **settings: Any) -> SubmitResult:
    config = SubmitConfig(command=commands[0], logs=logs, wait=True, minutes=5, cpus=1, **settings)
    return submit(config, commands)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real Slurm cluster of two nodes on this machine, for the time of these tests."""
    tools = Path(__file__).parent / "slurm"
    absent = [name for name in ("sbatch", "slurmctld", "munged") if not shutil.which(name, path=_system_path())]
    if absent or os.geteuid() != 0:
        pytest.skip(f"starting Slurm needs root and {', '.join(absent) or 'nothing else'}")
    root = tmp_path_factory.mktemp("slurm")
    ports = {name: str(_free_port()) for name in ("CTLPORT", "NDPORT")}
    environment = {**os.environ, "ROOT": str(root), "NODES": "2", "ACCT": "0", "MODE": "multi", **ports}
    try:
        subprocess.run([tools / "up.sh"], env=environment, check=True, timeout=90, stdout=subprocess.DEVNULL)
        yield root / "slurm.conf"
    finally:
        subprocess.run([tools / "down.sh"], env=environment, check=False, timeout=90)


@pytest.fixture
def on_slurm(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point Slurm's commands at the test cluster."""
    monkeypatch.setenv("SLURM_CONF", str(slurm))


def _system_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


def test_local_job_runs_the_command(tmp_path: Path) -> None:
    """Without Slurm the command runs in a process of its own and its output is in the log."""
    result = _submit(tmp_path / "logs", VERSION, cluster="local")
    assert result.exit_code == 0
    assert "unetpipe 0." in result.jobs[0].log.read_text()


def test_local_failure_gives_its_code_and_last_lines(tmp_path: Path, logged: list[str]) -> None:
    """The command's exit code is the job's, what it said last is told, and the commands after it do not run."""
    result = _submit(tmp_path / "logs", WRONG_USAGE, VERSION, cluster="local")
    assert result.exit_code == 2
    assert logged[-1].splitlines()[-2] == "error: WORK is missing"
    assert "unetpipe 0." not in result.jobs[0].log.read_text()


def test_a_job_imports_the_extension_that_its_command_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the folder that the job was submitted in, and the part is known in the job."""
    monkeypatch.chdir(tmp_path)
    Path("lab.py").write_text(
        "from unetpipe import register\n\n\n@register('metric', 'test_of_job')\n"
        "def same(reference, prediction, spacing_mm):\n    return float((reference == prediction).mean())\n"
    )
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    write_labels(tmp_path / "a" / "case.nii.gz", labels, Grid.of(labels.shape, np.eye(4)), {})
    command = ("evaluate", "a", "a", "--out", "out", "--no-report", "--extension", "lab.py", "--metric", "test_of_job")
    result = _submit(tmp_path / "logs", command, cluster="local")
    assert result.exit_code == 0, result.jobs[0].log.read_text()
    assert "test_of_job" in (tmp_path / "out" / "metrics.csv").read_text()


def test_not_waiting_returns_at_once(tmp_path: Path) -> None:
    """Without --wait the result names the job and its log, and no exit code."""
    result = submit(SubmitConfig(command=VERSION, logs=tmp_path / "logs", cluster="local"))
    assert (result.exit_code, result.jobs[0].exit_code) == (0, None)
    assert result.jobs[0].log.parent == tmp_path / "logs"


def test_auto_without_slurm_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sinfo is not on the PATH, `auto` runs locally and `slurm` is an error that says why."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert submit(SubmitConfig(command=VERSION, logs=tmp_path / "logs")).cluster == "local"
    with pytest.raises(ClusterError, match="sinfo and sbatch are not on the PATH"):
        submit(SubmitConfig(command=VERSION, logs=tmp_path / "logs", cluster="slurm"))


def test_a_preempted_job_is_resubmitted_as_it_was() -> None:
    """Training goes on by itself: what submitit resubmits on its signal is the same job, by the name it looks for."""
    job = CommandJob((("train", "work"),))
    assert job.checkpoint().function == job


def test_the_exit_of_a_requeue_is_not_the_command_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Submitit leaves through SystemExit(-1) after a requeue: the job must not mistake it for a failed command."""

    def requeued(*_: object, **__: object) -> None:
        raise SystemExit(-1)

    monkeypatch.setattr(cluster.runpy, "run_module", requeued)
    with pytest.raises(SystemExit):
        CommandJob((("train", "work"),))()


def test_one_command_per_fold() -> None:
    """`all` is every fold there is; numbers are those."""
    train = ("train", "work", "--epochs", "3")
    assert one_per_fold(train, "all", 3) == tuple((*train, "--fold", str(k)) for k in range(3))
    assert one_per_fold(train, "0,2", 5) == ((*train, "--fold", "0"), (*train, "--fold", "2"))


@pytest.mark.parametrize(
    ("command", "folds", "message"),
    [
        (("infer", "m", "i"), "all", "goes with a train command"),
        (("train", "work", "--fold", "1"), "all", "without --fold"),
        (("train", "work", "--folds", "1"), "all", "without --fold"),
        (("train", "work"), "1,x", "takes `all` or numbers"),
        (("train", "work"), "0,5,7", "no fold 5, 7: the work folder has 0 to 4"),
    ],
)
def test_wrong_folds_are_refused(command: Command, folds: str, message: str) -> None:
    """Folds that are not there, or make no sense, are refused before anything is submitted."""
    with pytest.raises((ClusterError, TrainingError), match=message):
        one_per_fold(command, folds, 5)


@pytest.mark.usefixtures("on_slurm")
def test_slurm_runs_an_array(tmp_path: Path, logged: list[str]) -> None:
    """On Slurm each command is a job of an array; the failed one's code comes back, the other's output is there."""
    result = _submit(tmp_path / "logs", VERSION, WRONG_USAGE, cluster="auto")
    assert result.cluster == "slurm"
    assert [job.exit_code for job in result.jobs] == [0, 2]
    assert result.exit_code == 2
    assert "unetpipe 0." in result.jobs[0].log.read_text()
    assert any("error: WORK is missing" in line for line in logged)
    assert {job.id.split("_")[0] for job in result.jobs} == {result.jobs[0].id.split("_")[0]}


@pytest.mark.usefixtures("on_slurm")
def test_slurm_s_refusal_is_told(tmp_path: Path) -> None:
    """A partition that is not there is Slurm's refusal in one line, not a traceback."""
    with pytest.raises(ClusterError, match="invalid partition"):
        _submit(tmp_path / "logs", VERSION, cluster="slurm", partition="nowhere")


@pytest.mark.usefixtures("on_slurm")
def test_resources_reach_the_batch_script(tmp_path: Path) -> None:
    """What is asked for stands in the script that Slurm was given."""
    settings = {"memory_gb": 1, "sbatch": {"comment": "lab"}, "partition": "debug"}
    result = _submit(tmp_path / "logs", VERSION, cluster="slurm", **settings)
    script = (tmp_path / "logs" / f"{result.jobs[0].id}_submission.sh").read_text()
    for line in ("--mem=1GB", "--cpus-per-task=1", "--comment=lab", "--partition=debug", "--time=5", "--requeue"):
        assert f"#SBATCH {line}\n" in script
    assert "export PATH=" in script
