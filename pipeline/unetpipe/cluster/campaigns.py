"""The jobs of a submitted command: one, an array of folds, or an array of shards and the merge of their reports."""

import logging
from collections.abc import Sequence

from pydantic import BaseModel

from unetpipe.cluster.config import Resources, SubmitConfig
from unetpipe.cluster.jobs import Array, Command, Job, with_options
from unetpipe.cluster.profiles import resources_for
from unetpipe.cluster.slurm import is_installed
from unetpipe.config.infer import InferConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import choose_folds, read_folds
from unetpipe.errors import ClusterError
from unetpipe.tracking.store import is_file_store

log = logging.getLogger(__name__)


def jobs_of(config: SubmitConfig, checked: BaseModel) -> tuple[Job, ...]:
    """Make the jobs of a command.

    Args:
        config: Options of `submit`, with the command line.
        checked: Config that the command line has been parsed into.

    Raises:
        ClusterError: If an option of `submit` does not go with the command, or contradicts one of the command.
        PlanError: If folds are wanted and the work folder has no split.
        TrainingError: If a fold is not a number, or the split has no such fold.
    """
    name, *_ = config.command
    if config.folds is not None and not isinstance(checked, TrainConfig):
        raise ClusterError(f"--folds goes with the command train, not with {name}")
    if config.array is not None and not isinstance(checked, InferConfig):
        raise ClusterError(f"--array goes with the command infer, not with {name}")
    resources = resources_for(name, config)
    if isinstance(checked, TrainConfig):
        folds = None
        if config.folds is not None:
            folds = choose_folds(config.folds, len(read_folds(checked.work).folds))
        warn_of_file_store(config, checked, folds or ())
        return (train_job(config.command, checked, resources, folds),)
    if resources.nodes > 1:
        raise ClusterError(f"--nodes goes with the command train, not with {name}")
    if isinstance(checked, InferConfig):
        return _infer_jobs(config, checked, resources)
    return (Job(name=name, command=config.command, resources=resources),)


def train_job(command: Command, checked: TrainConfig, resources: Resources, folds: Sequence[int] | None) -> Job:
    """Make the job of a training, or of one training per fold; each GPU of a node gets a process.

    Args:
        command: Command line of `train`.
        checked: Config that the command line has been parsed into.
        resources: Resources of each training.
        folds: Numbers of the folds; None for the fold that the command names.

    Raises:
        ClusterError: If both `submit` and the command name folds, or they name different numbers of GPUs.
    """
    if folds is not None and checked.model_fields_set & {"fold", "folds"}:
        raise ClusterError("--folds of submit goes with a train command that names no fold itself")
    asked, given = checked.gpus, resources.gpus
    if given == 0 and asked > 1 and checked.device != "cpu":
        raise ClusterError(f"train is to use --gpus {asked}, and the job has none: submit --gpus {asked} train ...")
    if given and "gpus" in checked.model_fields_set and asked != given:
        raise ClusterError(f"submit is given --gpus {given} and train --gpus {asked}: leave out train's")
    array = None if folds is None else Array(option="--fold", tasks=tuple(folds))
    processes = given or asked
    return Job(
        name="train",
        command=command,
        resources=resources,
        array=array,
        processes=processes,
        resumes=True,
        tracked_in=checked.work.absolute() if checked.tracking == "mlflow" else None,
    )


def infer_jobs(
    command: Command, checked: InferConfig, resources: Resources, merge: Resources, shards: int
) -> tuple[Job, Job]:
    """Make an array of shards, and the job that merges their reports once all have ended, failed ones included.

    Args:
        command: Command line of `infer`.
        checked: Config that the command line has been parsed into.
        resources: Resources of each shard.
        merge: Resources of the merge.
        shards: Number of shards.

    Raises:
        ClusterError: If the command names a shard itself.
    """
    if checked.shard is not None:
        raise ClusterError("--array goes with an infer command without --shard")
    if not checked.skip_existing:
        command = with_options(command, "--skip-existing")
    array = Array(option="--shard", tasks=tuple(range(1, shards + 1)), total=shards)
    return (
        Job(name="infer", command=command, resources=resources, array=array, resumes=True),
        Job(
            name="merge",
            command=("merge", str(checked.out), "--shards", str(shards)),
            resources=merge,
            after=("infer",),
            after_failure=True,
        ),
    )


def warn_of_file_store(config: SubmitConfig, training: TrainConfig, folds: Sequence[int]) -> None:
    """Log a warning if trainings on several nodes will write to one SQLite file.

    Args:
        config: Options of `submit`.
        training: Config of the training.
        folds: Numbers of the folds that are trained at the same time.
    """
    on_slurm = config.cluster != "local" and is_installed()
    if on_slurm and len(folds) > 1 and training.tracking == "mlflow" and is_file_store(training.work):
        log.warning(
            "several nodes will write to MLflow's store, a SQLite file that is made for one machine: "
            "set MLFLOW_TRACKING_URI to a server"
        )


def without_gpus(resources: Resources) -> Resources:
    """Return the same resources for a command that runs on one node without a GPU."""
    return resources.model_copy(update={"gpus": 0, "nodes": 1})


def _infer_jobs(config: SubmitConfig, checked: InferConfig, resources: Resources) -> tuple[Job, ...]:
    if resources.gpus > 1:
        log.warning("infer uses one of the %d GPUs: submit --gpus 1 --array N infer ... uses N", resources.gpus)
    if config.array is None:
        return (Job(name="infer", command=config.command, resources=resources, resumes=checked.skip_existing),)
    merge = without_gpus(resources_for("merge", config))
    return infer_jobs(config.command, checked, resources, merge, config.array)
