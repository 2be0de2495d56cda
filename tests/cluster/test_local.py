"""Submissions without Slurm: the same words, one background process."""

import time
from pathlib import Path

import pytest

from unetpipe.cluster.config import Resources, SubmissionConfig, SubmitConfig
from unetpipe.cluster.control import cancel, retry, show_logs, show_status
from unetpipe.cluster.jobs import Array, Job
from unetpipe.cluster.submit import Scripts, SubmitResult, submit_jobs
from unetpipe.errors import ClusterError
from unetpipe.progress import SilentProgress

LAST = SubmissionConfig()
SHELL = Resources(program="bash -c")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SubmitConfig:
    """Submits to this machine and waits, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return SubmitConfig(command=("x",), cluster="local", wait=True)


def shell(name: str, command: str, **more: object) -> Job:
    return Job.model_validate({"name": name, "command": (command,), "resources": SHELL} | more)


def submit(config: SubmitConfig, *jobs: Job) -> SubmitResult:
    result = submit_jobs(config, jobs)
    assert isinstance(result, SubmitResult)
    return result


def test_the_command_of_this_installation_runs(config: SubmitConfig) -> None:
    """Unless a program is named, jobs are run by the interpreter that submits them."""
    result = submit(config, Job(name="version", command=("--version",), resources=Resources()))
    assert (result.cluster, result.number, result.exit_code) == ("local", 1, 0)
    assert "unetpipe " in result.tasks[0].log.read_text()


def test_a_failure_gives_its_code_and_last_lines(config: SubmitConfig, logged: list[str]) -> None:
    """What depends on a failed job is left out, what does not runs; the first failure's exit code is the result's."""
    jobs = (
        shell("train", "echo task $1; exit $1", array=Array(option="-", tasks=(0, 3))),
        shell("evaluate", "echo evaluated", after=("train",)),
        shell("merge", "echo merged", after=("train",), after_failure=True),
    )
    result = submit(config, *jobs)
    assert {task.task: task.exit_code for task in result.tasks} == {
        "train_0": 0,
        "train_3": 3,
        "evaluate": 1,
        "merge": 0,
    }
    assert result.exit_code == 3
    assert "train_3 has failed with exit code 3; the end of its output:" in logged
    assert "task 3" in logged
    assert not (Path("slurm") / "1" / "evaluate.log").exists()


def test_status_logs_and_cancel(config: SubmitConfig) -> None:
    """Each asks for the last submission, or for one by its number."""
    submit(config, shell("first", "echo hello"))
    going = config.model_copy(update={"wait": False})
    result = submit(going, shell("second", "sleep 60"), shell("third", "echo never"))
    assert (result.number, result.exit_code) == (2, 0)
    while show_status(config, LAST).tasks[0].state != "running":
        time.sleep(0.05)
    assert [task.state for task in show_status(config, LAST).tasks] == ["running", "pending"]
    assert show_status(config, SubmissionConfig(number=1)).tasks[0].state == "completed"
    assert "hello" in show_logs(config, SubmissionConfig(number=1)).logs
    cancel(config, LAST)
    deadline = time.monotonic() + 20
    while not all(task.has_ended for task in show_status(config, LAST).tasks):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    status = show_status(config, LAST)
    assert [task.state for task in status.tasks] == ["cancelled", "cancelled"]
    assert status.failed
    with pytest.raises(ClusterError, match="holds no submission 7, but 1 to 2"):
        show_status(config, SubmissionConfig(number=7))


def test_a_cancelled_job_runs_until_it_has_saved(config: SubmitConfig) -> None:
    """Nobody may start it again before; then it is known to be cancelled, and what comes after it does not run."""
    saves = "trap 'sleep 1; touch saved; exit 130' TERM; touch ready; sleep 60 & wait"
    submit(config.model_copy(update={"wait": False}), shell("train", saves), shell("merge", "touch merged"))
    deadline = time.monotonic() + 60
    while not Path("ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    states = cancel(config, LAST).tasks
    assert states[0].state == "running"
    while not all(state.has_ended for state in states):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        states = show_status(config, LAST).tasks
    assert Path("saved").exists()
    assert [state.state for state in states] == ["cancelled", "cancelled"]
    assert not Path("merged").exists()


def test_retry_submits_what_failed_and_what_depends_on_it(
    config: SubmitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shards that are done are left alone, the merge runs again; where nothing failed, nothing is retried.

    Jobs run where they ran before, wherever `retry` is called.
    """
    shards = shell("infer", "[ $1 != 2/3 ] || [ -e mended ]", array=Array(option="-", tasks=(1, 2, 3), total=3))
    merge = shell("merge", "[ -e mended ]", after=("infer",), after_failure=True)
    first = submit(config, shards, merge)
    assert [task.exit_code for task in first.tasks] == [0, 1, 0, 1]
    Path("mended").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = config.model_copy(update={"logs": tmp_path / config.logs})
    second = retry(config, LAST, SilentProgress())
    assert isinstance(second, SubmitResult)
    assert {task.task: task.exit_code for task in second.tasks} == {"infer_2": 0, "merge": 0}
    with pytest.raises(ClusterError, match="nothing of submission 2 has failed"):
        retry(config, LAST, SilentProgress())


def test_a_dry_run_leaves_nothing(config: SubmitConfig) -> None:
    """It gives the script, and neither a folder nor a process."""
    found = submit_jobs(config.model_copy(update={"dry_run": True}), [shell("train", "true")])
    assert isinstance(found, Scripts)
    assert found.scripts.startswith("#!/bin/bash\n")
    assert not Path("slurm").exists()


def test_several_nodes_are_slurm_s(config: SubmitConfig) -> None:
    """A local job has one machine, and a refused submission leaves no folder."""
    job = shell("train", "true").model_copy(update={"resources": Resources(nodes=2)})
    with pytest.raises(ClusterError, match="--nodes is Slurm's"):
        submit(config, job)
    assert list(Path("slurm").iterdir()) == []


def test_auto_without_slurm_is_local(config: SubmitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Slurm's commands are not installed, `auto` runs locally and `slurm` is an error that says why."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("bash", "cat"):
        (commands / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(commands))
    assert submit(config.model_copy(update={"cluster": "auto"}), shell("x", "true")).cluster == "local"
    with pytest.raises(ClusterError, match="sinfo and sbatch are not on the PATH"):
        submit(config.model_copy(update={"cluster": "slurm"}), shell("x", "true"))


def test_a_silent_controller_is_no_reason_to_train_on_the_login_node(
    config: SubmitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Slurm is installed and does not answer, `auto` is an error that says how to run here."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sinfo", "sbatch"):
        (commands / name).write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=":")
    with pytest.raises(ClusterError, match="Unable to contact slurm controller; --cluster local runs"):
        submit(config.model_copy(update={"cluster": "auto"}), shell("x", "true"))
