"""Jobs on Slurm: submit them, ask for their states and cancel them, through Slurm's own commands."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from unetpipe.cluster.batch_script import batch_script, sbatch_command
from unetpipe.cluster.jobs import Job
from unetpipe.cluster.states import UNKNOWN, TaskState, exit_code, task_state
from unetpipe.cluster.submission import Submission, write_submission
from unetpipe.errors import ClusterError
from unetpipe.files import write_text

_PATIENCE_S = 60.0
_SET_ALWAYS = (
    *("ARRAY_INX", "JOB_NAME", "TIMELIMIT", "SIGNAL", "REQUEUE", "NO_REQUEUE", "OPEN_MODE"),
    *("GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK", "OUTPUT", "ERROR"),
    "WAIT",  # with which sbatch would not answer before the job has ended
)
_VARIABLES = {"switches": "REQ_SWITCH", "cpu-freq": "CPU_FREQ_REQ"}
"""What Slurm calls the variables of options that are called otherwise."""
_SET_WITH_MEMORY = ("MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU")


def is_installed() -> bool:
    """Whether Slurm's commands are on the PATH."""
    return all(shutil.which(name) for name in ("sinfo", "sbatch"))


def require_answer() -> None:
    """Check that Slurm's controller answers.

    Raises:
        ClusterError: If it does not.
    """
    if not is_installed():
        raise ClusterError("Slurm is not installed here: sinfo and sbatch are not on the PATH")
    _call("sinfo", "--noheader")


def submit_jobs(submission: Submission, folder: Path) -> Submission:
    """Submit the jobs of a submission, and write its record. If Slurm refuses one, the others are cancelled.

    Args:
        submission: Submission without ids.
        folder: Folder of the submission.

    Returns:
        The submission with Slurm's ids.

    Raises:
        ClusterError: If Slurm refuses a job.
    """
    ids: dict[str, str] = {}
    for job in submission.jobs:
        script = folder / f"{job.name}.sh"
        write_text(script, batch_script(job, folder, submission.where))
        try:
            answer = _call(*sbatch_command(job, script, ids), environment=_sbatch_environment(job))
        except ClusterError as refusal:
            _take_back(list(ids.values()), refusal)
            raise
        ids[job.name] = answer.strip().partition(";")[0]
    submitted = submission.model_copy(update={"ids": ids})
    write_submission(folder, submitted)
    return submitted


def _sbatch_environment(job: Job) -> dict[str, str]:
    """The environment without the variables that would override what the job's script says."""
    own = [*_SET_ALWAYS, *(_SET_WITH_MEMORY if job.resources.memory_gb else ())]
    own += ["PARTITION"] if job.resources.partition else []
    given = job.resources.sbatch
    own += [_VARIABLES.get(name, name.replace("-", "_").upper()) for name in given]
    own += _SET_WITH_MEMORY if {"mem-per-cpu", "mem-per-gpu"} & given.keys() else ()
    variables = {f"SBATCH_{name}" for name in own}
    return {name: value for name, value in os.environ.items() if name not in variables}


def _take_back(ids: Sequence[str], refusal: ClusterError) -> None:
    """Cancel the jobs that were submitted before one was refused.

    Raises:
        ClusterError: If they cannot be cancelled; says first why the other was refused.
    """
    if not ids:
        return
    try:
        _call("scancel", *ids)
    except ClusterError as error:
        raise ClusterError(f"{refusal}; {error}; still queued: {', '.join(ids)}") from None


def job_states(submission: Submission, folder: Path) -> list[TaskState]:
    """Return the state of every task: Slurm's, or, if Slurm has forgotten the task, that of its recorded exit code.

    A task that Slurm has forgotten and whose script has not reached its end was cancelled, by whomever: a controller
    forgets no task that waits or runs. But it may not show those of other people, nor of another cluster.
    """
    shown = folder.stat().st_uid == os.getuid() and not _is_elsewhere(submission)
    ids = list(submission.ids.values())
    queued = _queued(ids)
    known = _accounted(ids) | (queued or {})
    states = []
    for job in submission.jobs:
        for name, number in job.tasks.items():
            identity = submission.ids[job.name] + ("" if number is None else f"_{number}")
            state, reason = known.get(identity, (UNKNOWN, ""))
            if state == UNKNOWN and (code := exit_code(folder, name)) is not None:
                state = "failed" if code else "completed"
            elif state == UNKNOWN and queued is not None and shown:
                state = "cancelled"
            states.append(task_state(folder, name, identity, state, reason))
    return states


def cancel_jobs(submission: Submission) -> None:
    """Cancel the tasks that have not ended.

    Raises:
        ClusterError: If Slurm does not answer.
    """
    _call("scancel", *submission.ids.values())


def _is_elsewhere(submission: Submission) -> bool:
    return "SBATCH_CLUSTERS" in os.environ or any("clusters" in job.resources.sbatch for job in submission.jobs)


def _queued(ids: Sequence[str]) -> dict[str, tuple[str, str]] | None:
    """State and reason of each task by its id, for those that Slurm's controller still knows; None if it is silent."""
    try:
        lines = _call(
            *("squeue", "--all", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"),
            f"--jobs={','.join(ids)}",
        )
    except ClusterError as error:
        return {} if "Invalid job id" in str(error) else None  # so it says of a single job that it has forgotten
    fields = [line.split("|") for line in lines.splitlines()]
    return {one[0]: (one[1].lower(), "" if one[2] == "None" else one[2]) for one in fields if len(one) == 3}


def _accounted(ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The same from Slurm's accounting database; empty if there is none."""
    try:
        lines = _call(
            "sacct", "--allocations", "--noheader", "--parsable2", f"--jobs={','.join(ids)}", "--format=JobID,State"
        )
    except ClusterError:
        return {}
    fields = [line.split("|") for line in lines.splitlines()]
    return {one[0]: (one[1].split()[0].lower(), "") for one in fields if len(one) == 2 and one[1]}


def _call(*words: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a command of Slurm, in this process's environment unless another is given, and return its output.

    Raises:
        ClusterError: If it fails, or does not answer within a minute.
    """
    try:
        answer = subprocess.run(
            words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"Slurm does not answer: {words[0]} took more than {_PATIENCE_S:.0f} s") from None
    except OSError as error:
        raise ClusterError(f"Slurm's {words[0]} cannot be called: {error.strerror}") from None
    if answer.returncode != 0:
        reason = " ".join(answer.stderr.split()) or f"exit code {answer.returncode}"
        raise ClusterError(f"Slurm's {words[0]} failed: {reason}")
    return answer.stdout
