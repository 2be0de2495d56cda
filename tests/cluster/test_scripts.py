"""Scripts as text: each of `golden/` is what a job becomes, to be read by a person."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unetpipe.cluster.batch_script import batch_script, program_words, sbatch_command
from unetpipe.cluster.config import Resources
from unetpipe.cluster.jobs import Array, Job
from unetpipe.cluster.local_script import local_script
from unetpipe.errors import ClusterError

GOLDEN = Path(__file__).parent / "golden"
FOLDER, WHERE = Path("/home/lab/slurm/3"), Path("/home/lab")
PLAIN = Resources(program="unetpipe", minutes=60)

PREPROCESS = Job(name="preprocess", command=("preprocess", "Task 04", "--out", "work"), resources=PLAIN)
FOLDS = Job(
    name="train",
    command=("train", "work"),
    resources=Resources(
        program="apptainer exec --nv unetpipe.sif unetpipe",
        partition="gpu",
        nodes=2,
        gpus=4,
        cpus=8,
        memory_gb=100,
        minutes=720,
        requeues=5,
        sbatch={"account": "lab", "constraint": "a100&nvlink"},
        srun={"mpi": "none"},
    ),
    array=Array(option="--fold", tasks=(0, 2, 4)),
    processes=4,
    after=("preprocess",),
    resumes=True,
)
SHARDS = Job(
    name="infer",
    command=("infer", "model", "scans", "--out", "labels", "--skip-existing"),
    resources=PLAIN,
    array=Array(option="--shard", tasks=(1, 2), total=2),
    after=("train",),
    resumes=True,
)
MERGE = Job(
    name="merge",
    command=("merge", "labels", "--shards", "2"),
    resources=PLAIN,
    after=("infer",),
    after_failure=True,
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("preprocess.sh", batch_script(PREPROCESS, FOLDER, WHERE)),
        ("train_folds.sh", batch_script(FOLDS, FOLDER, WHERE)),
        ("infer_shards.sh", batch_script(SHARDS, FOLDER, WHERE)),
        ("local.sh", local_script((PREPROCESS, FOLDS, SHARDS, MERGE), FOLDER, WHERE)),
    ],
)
def test_scripts_are_as_they_were_read(name: str, text: str) -> None:
    """Every line of a script is one that somebody has read; bash can read it too."""
    assert text == (GOLDEN / name).read_text()
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck")
@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_scripts_pass_shellcheck(path: Path) -> None:
    """Quoting and exit codes are as bash understands them."""
    subprocess.run(["shellcheck", path], check=True)


def test_dependencies_are_ids() -> None:
    """A job waits for the success of those before it, the merge for their end; one that can never start goes."""
    ids = {"preprocess": "7", "infer": "8"}
    assert sbatch_command(PREPROCESS, Path("p.sh"), {}) == ("sbatch", "--parsable", "p.sh")
    assert sbatch_command(FOLDS, Path("t.sh"), ids)[2:] == (
        "--dependency=afterok:7",
        "--kill-on-invalid-dep=yes",
        "t.sh",
    )
    assert sbatch_command(MERGE, Path("m.sh"), ids)[2] == "--dependency=afterany:8"


@pytest.mark.parametrize(
    ("option", "instead"), [("nodes", "--nodes"), ("ntasks", "--nodes and --gpus"), ("array", "unetpipe itself")]
)
def test_options_that_change_what_is_computed_are_refused(option: str, instead: str) -> None:
    """`--sbatch nodes=2` would start every training twice in the same folder."""
    job = PREPROCESS.model_copy(update={"resources": Resources(sbatch={option: "2"})})
    with pytest.raises(ClusterError, match=f"--sbatch {option}=... is not taken: {instead} sets it"):
        batch_script(job, FOLDER, WHERE)


@pytest.mark.parametrize(("minutes", "seconds"), [(1, 7), (8, 60), (16, 120), (720, 120)])
def test_slurm_warns_before_the_time_limit(minutes: int, seconds: int) -> None:
    """Two minutes before, or an eighth of the time of a short job; not at all where starting again would not help."""
    resources = PLAIN.model_copy(update={"minutes": minutes})
    training = FOLDS.model_copy(update={"resources": resources})
    assert f"#SBATCH --signal=USR2@{seconds}\n" in batch_script(training, FOLDER, WHERE)
    assert "--signal" not in batch_script(PREPROCESS, FOLDER, WHERE)


@pytest.mark.skipif(sys.platform == "darwin", reason="jobs of Slurm run on Linux, with GNU date")
@pytest.mark.parametrize(("end", "requeued"), [("now + 100 seconds", True), ("now + 1 hour", False), ("", False)])
def test_a_job_is_started_again_only_near_an_end_that_can_be_read(tmp_path: Path, end: str, requeued: bool) -> None:
    """Whatever format a person has chosen for times: Slurm is asked for dates."""
    job = FOLDS.model_copy(update={"array": None})
    (tmp_path / "srun").write_text("#!/bin/bash\nexit 130\n")
    date = f"$(date -d '{end}' +%Y-%m-%dT%H:%M:%S)" if end else "Unknown"
    (tmp_path / "scontrol").write_text(f"""#!/bin/bash
        [[ $1 == requeue ]] && exec touch requeued
        [[ $SLURM_TIME_FORMAT == standard ]] && end={date} || end=Tomorr
        echo "JobId=1 JobState=RUNNING PreemptTime=None EndTime=$end Partition=gpu"
        """)
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "SLURM_JOB_ID": "1",
        "SLURM_TIME_FORMAT": "relative",
    }
    script = batch_script(job, tmp_path, tmp_path)
    ended = subprocess.run(["bash"], input=script, text=True, cwd=tmp_path, env=environment, check=False)
    assert (tmp_path / "requeued").exists() == requeued
    assert ended.returncode == (0 if requeued else 130)


def test_a_percent_sign_in_a_path_is_one() -> None:
    """Slurm would take what follows it for a pattern."""
    assert "#SBATCH --output=/lab/50%%a/train_%a.log\n" in batch_script(FOLDS, Path("/lab/50%a"), WHERE)


def test_options_of_a_task_come_before_two_hyphens() -> None:
    """What follows those are arguments; on this machine as on Slurm."""
    job = FOLDS.model_copy(update={"command": ("train", "--", "-w k"), "after": ()})
    assert """train --fold "$SLURM_ARRAY_TASK_ID" -- '-w k'\n""" in batch_script(job, FOLDER, WHERE)
    assert "train --fold 2 --gpus 4 -- '-w k'\n" in local_script((job,), FOLDER, WHERE)


def test_modules_of_the_current_folder_are_not_taken_for_the_package_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job looks there only if this process does: `python -m` would do so first."""
    (tmp_path / "random.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    elsewhere = [entry for entry in sys.path if entry and Path(entry) != tmp_path]
    monkeypatch.setattr(sys, "path", elsewhere)
    assert program_words(None) == (sys.executable, "-P", "-m", "unetpipe")
    ended = subprocess.run([*program_words(None), "--version"], capture_output=True, text=True, check=False)
    assert re.fullmatch(r"unetpipe .+\n", ended.stdout)
    for here in ("", str(tmp_path)):
        monkeypatch.setattr(sys, "path", [here, *elsewhere])
        assert program_words(None) == (sys.executable, "-m", "unetpipe")
