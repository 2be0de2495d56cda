"""A whole pipeline as jobs that wait for each other: preprocess, train folds, evaluate, segment scans."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel

from unetpipe.cluster.campaigns import infer_jobs, train_job, warn_of_file_store, without_gpus
from unetpipe.cluster.config import PipelineConfig, SubmitConfig
from unetpipe.cluster.jobs import Command, Job
from unetpipe.cluster.profiles import resources_for
from unetpipe.config.infer import InferConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import choose_folds, make_folds, read_folds
from unetpipe.dataset.layouts.recognition import inspect_dataset
from unetpipe.dataset.privacy.case_ids import CaseIds
from unetpipe.errors import ClusterError

Check = Callable[[Command], BaseModel]
"""Parses a command line into its config, or raises."""


def pipeline_jobs(config: SubmitConfig, pipeline: PipelineConfig, check: Check) -> tuple[Job, ...]:
    """Make the jobs of a pipeline. One whose predecessor fails is cancelled by Slurm, and left out locally.

    Args:
        config: Where and how it is submitted; GPUs and nodes are given to training, GPUs to inference.
        pipeline: What to do.
        check: Checks each command before anything is submitted.

    Raises:
        ClusterError: If options contradict each other.
        DatasetError: If no case of the dataset can be listed.
    """
    if config.folds is not None:
        raise ClusterError("a pipeline is given its folds after its name: submit pipeline DATASET --folds 0,1")
    work, run = pipeline.out, pipeline.out / "runs" / pipeline.run_name
    preprocess = _command("preprocess", str(pipeline.dataset), {"out": work}, pipeline.preprocess)
    train = _command("train", str(work), {"run_name": pipeline.run_name}, pipeline.train)
    report = pipeline.report or work / "report"
    evaluate = _command("evaluate", str(work), {"cross_validation": True, "run_name": pipeline.run_name, "out": report})
    preprocessing, training = check(preprocess), check(train)
    check(evaluate)
    assert isinstance(preprocessing, PreprocessConfig)
    assert isinstance(training, TrainConfig)
    folds = choose_folds(pipeline.folds, _count_folds(preprocessing))
    warn_of_file_store(config, training, folds)
    folds_job = train_job(train, training, resources_for("train", config), folds)
    processor = {name: without_gpus(resources_for(name, config)) for name in ("preprocess", "evaluate")}
    jobs = [
        Job(name="preprocess", command=preprocess, resources=processor["preprocess"]),
        folds_job.model_copy(update={"after": ("preprocess",)}),
        Job(name="evaluate", command=evaluate, resources=processor["evaluate"], after=("train",)),
    ]
    if pipeline.scans is not None:
        first, *others = [str(run / f"fold_{fold}") for fold in folds]
        models = [word for other in others for word in ("--model", other)]
        labels = pipeline.labels or work / "labels"
        infer = _command("infer", first, {"out": labels}, pipeline.infer)
        jobs += _segmenting(config, (*infer[:2], *models, str(pipeline.scans), *infer[2:]), check)
    return tuple(jobs)


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
    """A command line; every further option as ``--set NAME=VALUE``, which reads the value as YAML."""
    words = [name, argument]
    for option, value in options.items():
        flag = "--" + option.replace("_", "-")
        words += [flag] if value is True else [flag, str(value)]
    for option, value in (more or {}).items():
        words += ["--set", f"{option.replace('-', '_')}={value}"]
    return tuple(words)


def _count_folds(config: PreprocessConfig) -> int:
    """Number of folds that preprocessing will make, or has made."""
    if config.out is not None and (config.out / "folds.json").is_file():
        return len(read_folds(config.out).folds)
    manifest, _ = inspect_dataset(config.dataset, config.images, config.label, ids=CaseIds(config.case_ids))
    return len(make_folds(manifest, config.folds, config.seed).folds)
