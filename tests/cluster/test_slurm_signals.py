"""Jobs that are stopped, on a real Slurm: those that it takes away come back, those that a person ends do not."""

import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from unetpipe.cluster.config import Resources, SubmitConfig
from unetpipe.cluster.jobs import Job
from unetpipe.cluster.slurm import cancel_jobs, job_states, submit_jobs
from unetpipe.cluster.states import TaskState
from unetpipe.cluster.submission import Submission, make_folder, new_submission
from unetpipe.cluster.submit import submit_jobs as submit_and_wait

Until = Callable[[Callable[[], object]], None]

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


class Running:
    """A job that has been submitted and runs."""

    def __init__(self, job: Job, until: Until) -> None:
        self._until, self._folder = until, make_folder(Path("slurm"))
        self.submission: Submission = submit_jobs(new_submission("slurm", (job,)), self._folder)
        until(Path("running").exists)

    def end(self) -> TaskState:
        """Its state, once it has ended."""
        self._until(lambda: self._state().has_ended)
        return self._state()

    def _state(self) -> TaskState:
        return job_states(self.submission, self._folder)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "signal"), [(True, "SIGUSR2"), (False, "SIGTERM")])
def test_a_preempted_training_comes_back(
    training: Callable[..., Job],
    user_signal: Callable[[bool], None],
    preempt: Callable[[], None],
    until: Until,
    sent: bool,
    signal: str,
) -> None:
    """A job of higher priority takes the node: whatever Slurm sends, the training saves at once, and finishes later."""
    user_signal(sent)
    running = Running(training(sbatch={"nodelist": "n1"}), until)
    preempt()
    assert running.end().exit_code == 0
    assert Path("attempts").read_text() == f"{signal} finished"


def test_a_cancelled_training_stays_away(training: Callable[..., Job], until: Until) -> None:
    """Whoever cancels a job ends it, though it gets the same signal as one that is preempted, and saves."""
    running = Running(training(), until)
    cancel_jobs(running.submission)
    state = running.end()
    assert (state.state, state.exit_code) == ("cancelled", 1)
    until(Path("attempts").exists)
    assert Path("attempts").read_text() == "SIGTERM "


def test_a_training_that_a_person_tells_to_stop_stays_away(training: Callable[..., Job], until: Until) -> None:
    """A signal by hand is no preemption, and far from the time limit: the training saves and its job ends."""
    running = Running(training(), until)
    subprocess.run(["scancel", "--signal=TERM", running.submission.ids["train"]], check=True)
    assert running.end().exit_code == 130


@pytest.mark.slow
@pytest.mark.parametrize(("requeues", "code", "attempts"), [(1, 0, "SIGUSR2 finished"), (0, 130, "SIGUSR2 ")])
def test_a_job_is_started_again_at_its_time_limit_so_often(
    training: Callable[..., Job], until: Until, requeues: int, code: int, attempts: str
) -> None:
    """Slurm's warning makes it save, and its job is started again; after the last restart it ends as stopped."""
    running = Running(training(minutes=20, requeues=requeues), until)
    # Slurm looks at time limits every half minute: this one is then within the two minutes of the warning
    end = datetime.now() + timedelta(seconds=150)
    identity = running.submission.ids["train"]
    subprocess.run(["scontrol", "update", f"jobid={identity}", f"EndTime={end:%Y-%m-%dT%H:%M:%S}"], check=True)
    assert running.end().exit_code == code
    assert Path("attempts").read_text() == attempts


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
