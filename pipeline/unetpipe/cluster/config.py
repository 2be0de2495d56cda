"""The options of `unetpipe submit`: resources of jobs, the cluster, and the parts of whole pipelines."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from unetpipe.config.base import Config, RunName


def _as_typed(value: Any) -> Any:
    """A number or a switch of YAML as the word that it is on a command line."""
    return str(value).lower() if isinstance(value, bool | int | float) else value


def _as_typed_for_slurm(value: Any) -> Any:
    """An integer of YAML as the word that it is on a command line; 24.10 may be a word that no number keeps."""
    if isinstance(value, float):
        raise ValueError("a number with a point or an exponent must stand between quotes")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Words = dict[str, Annotated[str, BeforeValidator(_as_typed)]]
"""Values of further options of unetpipe by their names, each as it would be typed."""
SlurmWords = dict[str, Annotated[str, BeforeValidator(_as_typed_for_slurm)]]
"""Values of further options of Slurm, whose switches have none."""


class Resources(Config):
    """Resources of a job. All but `gpus` and `program` concern Slurm only."""

    partition: str | None = None
    """Slurm's partition; its default unless given."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """Nodes of a job; only `train` can use several, with one process for each GPU of each node."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs per node, all of which `train` uses; with 0 a job sees none."""
    cpus: Annotated[int, Field(ge=1)] = 2
    """Cores of a process: of the whole job, or for each GPU of a training."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Memory per node; the partition's default unless given."""
    minutes: Annotated[int, Field(ge=1)] = 1440
    """Wall-clock limit of a job; a training, or `infer --skip-existing`, that meets it is requeued and goes on."""
    requeues: Annotated[int, Field(ge=0)] = 20
    """Number of restarts after which a job that is preempted or meets its time limit ends instead of starting again."""
    sbatch: SlurmWords = {}
    """Further options of sbatch by their long names, such as account=lab or qos=high; may be given several times."""
    srun: SlurmWords = {}
    """Further options of srun by their long names, such as container-image=unetpipe.sqsh."""
    program: str | None = None
    """How the nodes call unetpipe, such as 'apptainer exec --nv unetpipe.sif unetpipe'; this installation unless
    given."""


class SubmitConfig(Resources):
    """`unetpipe submit`."""

    command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The unetpipe command with its options, as it would be typed here; or `pipeline`, `status`, `logs`, `cancel` or
    `retry` with theirs."""
    folds: str | None = None
    """Submit `train` once per fold: `all`, or numbers such as 0,1,4."""
    array: Annotated[int, Field(ge=1)] | None = None
    """Submit `infer` as so many jobs that share the scans, and one that merges what they report."""
    cluster: Literal["auto", "slurm", "local"] = "auto"
    """`local` is a background process; `auto` takes Slurm where its commands are installed."""
    profiles: Path | None = None
    """YAML file with resources by command, under `all`, `train` and so on; options given here win over it."""
    logs: Path = Path("slurm")
    """Folder for the scripts, output and records of submissions."""
    dry_run: bool = False
    """Print the scripts and submit nothing."""
    wait: bool = False
    """Wait for the jobs; the exit code is that of the first that failed, and its last lines are shown."""


class PipelineConfig(Config):
    """`unetpipe submit pipeline`."""

    dataset: Path
    """Dataset, as `unetpipe preprocess` takes it."""
    out: Path
    """Work folder to make."""
    folds: str = "all"
    """Folds to train: `all`, or numbers such as 0,1,4."""
    run_name: RunName = "default"
    """Name of the run's folder under OUT/runs."""
    report: Path | None = None
    """Folder of the cross-validation's report; OUT/report unless given."""
    ensemble: Path | None = None
    """Folder of the bundle that averages the models of all folds; OUT/runs/RUN_NAME/ensemble unless given."""
    scans: Path | None = None
    """Folder or file of further scans, which the models of all folds segment together."""
    labels: Path | None = None
    """Folder for the labels of `scans`; OUT/labels unless given."""
    preprocess: Words = {}
    """Further options of `unetpipe preprocess` by their names, such as preset=resenc-m."""
    train: Words = {}
    """Further options of `unetpipe train`, such as epochs=200."""
    infer: Words = {}
    """Further options of `unetpipe infer`, such as tta=true."""


class SubmissionConfig(Config):
    """`unetpipe submit status`, `logs`, `cancel` and `retry`."""

    number: Annotated[int, Field(ge=1)] | None = None
    """Number of the submission; the last one unless given."""
