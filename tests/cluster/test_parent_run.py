"""The runs of a submission's jobs are part of one tracking run, which ends as the submission does."""

import sqlite3
from pathlib import Path

import pytest

from unetpipe.cluster.config import Resources, SubmissionConfig, SubmitConfig
from unetpipe.cluster.control import cancel, retry, show_status
from unetpipe.cluster.jobs import Job
from unetpipe.cluster.submit import SubmitResult, submit_jobs
from unetpipe.progress import SilentProgress

LAST = SubmissionConfig()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SubmitConfig:
    """Submits to this machine and waits, in a folder of its own, with the work folder's store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return SubmitConfig(command=("x",), cluster="local", wait=True)


def tracked(command: str) -> Job:
    """A job that counts as a training of the work folder."""
    shell = Resources(program="bash -c")
    return Job(name="train", command=(command,), resources=shell, tracked_in=Path("work").absolute())


def runs() -> list[tuple[str, str, str]]:
    """Id, name and status of all runs in the work folder's store."""
    with sqlite3.connect("work/mlflow.db") as store:
        return list(store.execute("select run_uuid, name, status from runs").fetchall())


def printed(result: object) -> str:
    """What the only job has printed."""
    assert isinstance(result, SubmitResult)
    return result.tasks[0].log.read_text().strip()


def test_jobs_learn_of_the_run_and_retries_keep_it(config: SubmitConfig) -> None:
    """The run fails with the submission; submitted again, the job belongs to the same run, which then has finished."""
    first = submit_jobs(config, [tracked("echo $UNETPIPE_SUBMISSION_RUN; test -f done")])
    ((run_id, name, status),) = runs()
    assert (printed(first), name, status) == (run_id, "submission 1", "FAILED")
    Path("done").touch()
    assert printed(retry(config, LAST, SilentProgress())) == run_id
    assert runs() == [(run_id, name, "FINISHED")]


def test_a_cancelled_submission_ends_its_run(config: SubmitConfig) -> None:
    """Nobody waits: the run is open until somebody cancels the jobs or asks for them after their end."""
    submit_jobs(config.model_copy(update={"wait": False}), [tracked("sleep 100")])
    show_status(config, LAST)
    assert [status for *_, status in runs()] == ["RUNNING"]
    states = cancel(config, LAST).tasks
    while not all(state.has_ended for state in states):
        states = show_status(config, LAST).tasks
    assert [status for *_, status in runs()] == ["KILLED"]


def test_a_submission_with_a_failed_job_has_failed(config: SubmitConfig) -> None:
    """Though the jobs after it count as cancelled."""
    after = tracked("true").model_copy(update={"name": "evaluate", "after": ("train",)})
    submit_jobs(config, [tracked("exit 3"), after])
    assert [state.state for state in show_status(config, LAST).tasks] == ["failed", "cancelled"]
    assert [status for *_, status in runs()] == ["FAILED"]


def test_a_store_that_does_not_answer_is_no_reason_not_to_submit(
    config: SubmitConfig, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    """One line says so, and the jobs run without a parent."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = submit_jobs(config, [tracked("echo run: $UNETPIPE_SUBMISSION_RUN")])
    assert printed(result) == "run:"
    assert "the submission has no run in the tracking store (MlflowException)" in logged


def test_what_is_not_tracked_has_no_run(config: SubmitConfig) -> None:
    """Neither a store nor a work folder is made for a job that nothing tracks."""
    submit_jobs(config, [tracked("true").model_copy(update={"tracked_in": None})])
    assert not Path("work").exists()
