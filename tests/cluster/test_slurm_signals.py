"""Jobs that are stopped, on a real Slurm: those that it takes away come back, those that a person ends do not."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unetpipe.cluster.config import Resources, SubmitConfig
from unetpipe.cluster.jobs import Job
from unetpipe.cluster.slurm import cancel_jobs, job_states, submit_jobs
from unetpipe.cluster.states import TaskState
from unetpipe.cluster.submission import Submission, make_folder, new_submission
from unetpipe.cluster.submit import submit_jobs as submit_and_wait

# stands for a training: an attempt that is stopped saves and ends with 130, as `train` does; the next one finishes
_TRAINING = """
import os, pathlib, signal, sys, time
attempts = pathlib.Path("attempts")
before = attempts.read_text() if attempts.is_file() else ""
def stop(number, frame):
    attempts.write_text(before + signal.Signals(number).name + " ")
    sys.exit(130)
for number in (signal.SIGTERM, signal.SIGUSR2):
    signal.signal(number, stop)
if len(before.split()) < int(sys.argv[1]):
    attempts.with_name("running").touch()
    time.sleep(200)
attempts.write_text(before + "finished")
"""


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm: Path) -> Callable[..., Job]:
    """Make a job that is stopped `times` before it finishes, and writes down what stopped it into `attempts`."""
    assert slurm.is_file()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "training.py").write_text(_TRAINING)

    def make(times: int = 1, **resources: object) -> Job:
        settings = {"cpus": 2, "program": f"python3 {tmp_path / 'training.py'}", "minutes": 10} | resources
        return Job(name="train", command=(str(times),), resources=Resources.model_validate(settings), resumes=True)

    return make


@pytest.fixture(params=["with its signal", "without"])
def preemption(request: pytest.FixtureRequest, slurm: Path) -> Iterator[str]:
    """A site whose Slurm sends the signal that a job asks for before it preempts it, or one that sends SIGTERM."""
    text = slurm.read_text()
    if request.param == "with its signal":
        yield "SIGUSR2"
        return
    slurm.write_text(text.replace("SlurmctldParameters=preempt_send_user_signal\n", ""))
    subprocess.run(["scontrol", "reconfigure"], check=True)
    yield "SIGTERM"
    slurm.write_text(text)
    subprocess.run(["scontrol", "reconfigure"], check=True)


def _start(job: Job) -> tuple[Submission, Path]:
    folder = make_folder(Path("slurm"))
    submission = submit_jobs(new_submission("slurm", (job,)), folder)
    _until(Path("running").exists)
    return submission, folder


def _until(done: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _end(submission: Submission, folder: Path) -> TaskState:
    states: list[TaskState] = []

    def ended() -> bool:
        states[:] = job_states(submission, folder)
        return all(state.has_ended for state in states)

    _until(ended)
    return states[0]


@pytest.mark.slow
def test_a_preempted_training_comes_back(training: Callable[..., Job], preemption: str) -> None:
    """A job of higher priority takes the node: the training saves at once, and finishes afterwards."""
    submission, folder = _start(training(sbatch={"nodelist": "n1"}))
    take = ["sbatch", "--partition=urgent", "--nodelist=n1", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1"]
    subprocess.run(take, check=True, stdout=subprocess.DEVNULL)
    assert _end(submission, folder).exit_code == 0
    assert Path("attempts").read_text() == f"{preemption} finished"


def test_a_cancelled_training_stays_away(training: Callable[..., Job]) -> None:
    """Whoever cancels a job ends it, though it gets the same signal as one that is preempted, and saves."""
    submission, folder = _start(training())
    cancel_jobs(submission)
    state = _end(submission, folder)
    assert (state.state, state.exit_code) == ("cancelled", 1)
    _until(Path("attempts").exists)
    assert Path("attempts").read_text() == "SIGTERM "


def test_a_training_that_a_person_tells_to_stop_stays_away(training: Callable[..., Job]) -> None:
    """A signal by hand is no preemption, and far from the time limit: the training saves and its job ends."""
    submission, folder = _start(training())
    subprocess.run(["scancel", "--signal=TERM", submission.ids["train"]], check=True)
    assert _end(submission, folder).exit_code == 130


@pytest.mark.slow
def test_a_training_goes_on_after_its_time_limit(training: Callable[..., Job]) -> None:
    """Slurm's warning makes it save; its job is started again, with new time."""
    submission, folder = _start(training(minutes=1))
    assert _end(submission, folder).exit_code == 0
    assert Path("attempts").read_text() == "SIGUSR2 finished"


@pytest.mark.slow
def test_a_job_is_not_started_again_for_ever(training: Callable[..., Job]) -> None:
    """After so many restarts as are allowed, the next stop ends the job, and its exit code says that it was stopped."""
    submission, folder = _start(training(minutes=1, requeues=0))
    assert _end(submission, folder).exit_code == 130
    assert Path("attempts").read_text() == "SIGUSR2 "


@pytest.mark.slow
def test_waiting_outlasts_a_requeue(training: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    """`submit --wait` does not take the end of an interrupted attempt for the end of the job."""
    job = training()

    def requeue_once(submission: Submission, folder: Path) -> list[TaskState]:
        running = Path("running")
        if running.exists():
            running.unlink()
            subprocess.run(["scontrol", "requeue", submission.ids["train"]], check=True)
        return job_states(submission, folder)

    monkeypatch.setattr("unetpipe.cluster.submit.job_states", requeue_once)
    Path("attempts").write_text("")
    config = SubmitConfig(command=("train", "work"), cluster="slurm", logs=Path("slurm"), wait=True)
    result = submit_and_wait(config, [job])
    assert [task.exit_code for task in result.tasks] == [0]  # type: ignore[union-attr]
    assert Path("attempts").read_text().endswith("finished")
