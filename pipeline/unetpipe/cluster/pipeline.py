"""A whole pipeline as jobs that wait for each other.

`preprocess` comes first, then an array of one training per fold. When all folds are trained, `evaluate` sums up what
each fold's model predicted for its held-out cases, `bundle` makes one model of all folds, and `infer` segments further
scans.

The pipeline chooses no single fold as the best: folds are measured on different cases, so that the highest Dice is
mostly that of the easiest cases. The average of all folds' logits is what nnU-Net deploys too.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from unetpipe.cluster.campaigns import infer_jobs, train_job, warn_of_file_store, without_gpus
from unetpipe.cluster.config import PipelineConfig, SubmitConfig
from unetpipe.cluster.jobs import Command, Job
from unetpipe.cluster.profiles import resources_for
from unetpipe.components import registered, target_of
from unetpipe.config.infer import InferConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import FOLDS, choose_folds, make_folds, read_folds
from unetpipe.dataset.layouts.recognition import inspect_dataset
from unetpipe.dataset.privacy.case_ids import CaseIds
from unetpipe.dataset.run_folders import fold_folder, run_folder
from unetpipe.errors import ClusterError
from unetpipe.extensions import load_extensions

_OWN_OPTIONS = {
    "preprocess": {"dataset": "DATASET", "out": "--out"},
    "train": {"work": "--out", "run_name": "--run-name"},
    "infer": {"models": "--folds", "inputs": "--scans", "out": "--labels"},
}
"""What `submit pipeline` itself says to each command, and by what."""

Check = Callable[[Command], BaseModel]
"""Parses a command line into its config, or raises."""


def pipeline_jobs(config: SubmitConfig, pipeline: PipelineConfig, check: Check) -> tuple[Job, ...]:
    """Make the jobs of a pipeline. If one fails, those that depend on it never start.

    Args:
        config: Options of `submit`: its nodes and GPUs are for training, its GPUs for inference too.
        pipeline: Options of the pipeline.
        check: Parses each command line before anything is submitted.

    Raises:
        ClusterError: If options contradict each other.
        DatasetError: If no case of the dataset can be listed.
        ExtensionError: If an extension is not there or fails while it is imported.
    """
    if config.folds is not None:
        raise ClusterError("a pipeline is given its folds after its name: submit pipeline DATASET --folds 0,1")
    preprocess = _command("preprocess", str(pipeline.dataset), {"out": pipeline.out}, pipeline.preprocess)
    preprocessing = check(preprocess)
    assert isinstance(preprocessing, PreprocessConfig)
    folds = choose_folds(pipeline.folds, _count_folds(preprocessing))
    jobs = [Job(name="preprocess", command=preprocess, resources=without_gpus(resources_for("preprocess", config)))]
    training, job = _training(config, pipeline, folds, check)
    jobs.append(job)
    several = len(folds) > 1 and not _has_own_network(training)
    commands = [_evaluation(pipeline, preprocessing.extension), *([_ensemble(pipeline, folds)] if several else [])]
    for command in commands:
        check(command)
        resources = without_gpus(resources_for(command[0], config))
        jobs.append(Job(name=command[0], command=command, resources=resources, after=("train",)))
    if pipeline.scans is not None:
        jobs += _segmenting(config, _inference(pipeline, pipeline.scans, folds), check)
    return tuple(jobs)


def _training(
    config: SubmitConfig, pipeline: PipelineConfig, folds: Sequence[int], check: Check
) -> tuple[TrainConfig, Job]:
    command = _command("train", str(pipeline.out), {"run_name": pipeline.run_name}, pipeline.train)
    training = check(command)
    assert isinstance(training, TrainConfig)
    warn_of_file_store(config, training, folds)
    job = train_job(command, training, resources_for("train", config), folds)
    return training, job.model_copy(update={"after": ("preprocess",)})


def _has_own_network(training: TrainConfig) -> bool:
    """Whether an extension registers the network, of which no ensemble is made."""
    load_extensions(training.extension)
    return target_of(training.network) in registered("network")


def _evaluation(pipeline: PipelineConfig, extensions: Sequence[str]) -> Command:
    """Evaluate all folds, with the extensions that read the dataset."""
    report = pipeline.report or pipeline.out / "report"
    command = _command(
        "evaluate", str(pipeline.out), {"cross_validation": True, "run_name": pipeline.run_name, "out": report}
    )
    return (*command, *(word for one in extensions for word in ("--extension", one)))


def _ensemble(pipeline: PipelineConfig, folds: Sequence[int]) -> Command:
    run = run_folder(pipeline.out, pipeline.run_name)
    return _command(
        "bundle", str(run), {"folds": ",".join(map(str, folds)), "out": pipeline.ensemble or run / "ensemble"}
    )


def _inference(pipeline: PipelineConfig, scans: Path, folds: Sequence[int]) -> Command:
    """Segment scans with the models of the folds, and not with their ensemble, which takes networks of MONAI's only."""
    first, *others = [str(fold_folder(run_folder(pipeline.out, pipeline.run_name), fold)) for fold in folds]
    name, *options = _command("infer", first, {"out": pipeline.labels or pipeline.out / "labels"}, pipeline.infer)
    models = [word for other in others for word in ("--model", other)]
    return (name, options[0], *models, str(scans), *options[1:])


def _segmenting(config: SubmitConfig, command: Command, check: Check) -> list[Job]:
    checked = check(command)
    assert isinstance(checked, InferConfig)
    resources = resources_for("infer", config).model_copy(update={"nodes": 1})
    if config.array is None:
        return [
            Job(name="infer", command=command, resources=resources, after=("train",), resumes=checked.skip_existing)
        ]
    merge = without_gpus(resources_for("merge", config))
    shards, merging = infer_jobs(command, checked, resources, merge, config.array)
    return [shards.model_copy(update={"after": ("train",)}), merging]


def _command(
    name: str, argument: str, options: Mapping[str, str | Path | bool], more: Mapping[str, str] | None = None
) -> Command:
    """A command line; every further option as ``--set NAME=VALUE``, which reads the value as YAML.

    Raises:
        ClusterError: If a further option is one that the pipeline sets itself.
    """
    words = [name, argument]
    for option, value in options.items():
        flag = "--" + option.replace("_", "-")
        words += [flag] if value is True else [flag, str(value)]
    for option, value in (more or {}).items():
        field, dot, inner = option.partition(".")
        field = field.replace("-", "_")
        if field in _OWN_OPTIONS[name]:
            raise ClusterError(f"--{name} {option}=... is not taken: {_OWN_OPTIONS[name][field]} sets it")
        words += ["--set", f"{field}{dot}{inner}={value}"]
    return tuple(words)


def _count_folds(config: PreprocessConfig) -> int:
    """Number of folds that preprocessing will make, or has made."""
    if config.folds is None and config.out is not None and (config.out / "folds.json").is_file():
        return len(read_folds(config.out).folds)
    load_extensions(config.extension)  # whose readers say what an image is
    manifest, _ = inspect_dataset(config.dataset, config.images, config.label, ids=CaseIds(config.case_ids))
    return len(make_folds(manifest, config.folds or FOLDS, config.seed).folds)
