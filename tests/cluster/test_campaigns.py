"""What becomes of a command that is submitted."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import BaseModel

from unetpipe.cli import app
from unetpipe.cli.app import _CONFIGS
from unetpipe.cli.parse import check_command
from unetpipe.cluster.campaigns import jobs_of
from unetpipe.cluster.config import PipelineConfig, SubmitConfig
from unetpipe.cluster.jobs import Job
from unetpipe.cluster.pipeline import pipeline_jobs
from unetpipe.cluster.profiles import resources_for
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.infer import InferConfig
from unetpipe.config.package import PackageConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import Fold, Folds
from unetpipe.documents import write_document
from unetpipe.errors import ClusterError, TrainingError


def check(words: Sequence[str]) -> BaseModel:
    return check_command(app, _CONFIGS, words)


def jobs(*words: str, **settings: object) -> tuple[Job, ...]:
    config = SubmitConfig.model_validate({"command": words} | settings)
    return jobs_of(config, check_command(app, _CONFIGS, words))


def test_a_command_is_one_job() -> None:
    """It has the command's name, one task and one process."""
    (job,) = jobs("evaluate", "a", "b", "--out", "c")
    assert (job.name, job.command, list(job.tasks), job.processes) == (
        "evaluate",
        ("evaluate", "a", "b", "--out", "c"),
        ["evaluate"],
        1,
    )


def test_folds_are_the_tasks_of_a_training(work: Path) -> None:
    """`all` are those of the work folder; numbers are those; each goes on where it was stopped."""
    (job,) = jobs("train", str(work), folds="all")
    assert [job.command_of(task)[2:] for task in job.tasks.values()] == [("--fold", str(fold)) for fold in range(3)]
    assert list(jobs("train", str(work), folds="0,2")[0].tasks) == ["train_0", "train_2"]
    assert job.resumes


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (("infer", "m", "i", "--out", "o"), {"folds": "all"}, "--folds goes with the command train, not with infer"),
        (("train", "work", "--fold", "1"), {"folds": "all"}, "names no fold itself"),
        (("train", "work", "--folds", "1"), {"folds": "all"}, "names no fold itself"),
        (("train", "work"), {"folds": "1,x"}, "takes `all` or numbers"),
        (("train", "work"), {"folds": "0,5,7"}, "no fold 5, 7"),
        (("train", "work"), {"array": 3}, "--array goes with the command infer, not with train"),
        (("infer", "m", "i", "--out", "o", "--shard", "1/2"), {"array": 2}, "without --shard"),
        (("infer", "m", "i", "--out", "o"), {"nodes": 2}, "--nodes goes with the command train"),
        (("train", "work", "--gpus", "1"), {"gpus": 4}, "submit is given --gpus 4 and train --gpus 1"),
        (("train", "work", "--gpus", "4"), {"gpus": 1}, "submit is given --gpus 1 and train --gpus 4"),
        (("train", "work", "--gpus", "4"), {}, "and the job has none"),
    ],
)
def test_contradictions_are_refused(
    work: Path, words: tuple[str, ...], settings: dict[str, object], message: str
) -> None:
    """What does not go together is refused before anything is submitted."""
    words = tuple(str(work) if word == "work" else word for word in words)
    with pytest.raises((ClusterError, TrainingError), match=message):
        jobs(*words, **settings)


def test_each_gpu_has_a_process() -> None:
    """Of a training, on each of its nodes; with `--device cpu` it says itself how many."""
    (job,) = jobs("train", "work", nodes=2, gpus=4)
    assert (job.processes, job.resources.nodes) == (4, 2)
    assert jobs("train", "work", "--device", "cpu", "--gpus", "2")[0].processes == 2


def test_infer_says_that_it_uses_one_gpu(logged: list[str]) -> None:
    """GPUs that would idle are remarked."""
    assert jobs("infer", "m", "i", "--out", "o", gpus=2)[0].processes == 1
    assert logged == ["infer uses one of the 2 GPUs: submit --gpus 1 --array N infer ... uses N"]


def test_shards_are_merged_whatever_became_of_them() -> None:
    """A merge follows the shards, without a GPU; scans that are done are not segmented again by a later attempt."""
    shards, merge = jobs("infer", "m", "i", "--out", "o", array=16, gpus=1)
    assert shards.command_of(3) == ("infer", "m", "i", "--out", "o", "--skip-existing", "--shard", "3/16")
    assert len(shards.tasks) == 16
    assert merge.command == ("merge", "o", "--shards", "16")
    assert (merge.after, merge.after_failure, merge.resources.gpus) == (("infer",), True, 0)


def test_options_of_the_tasks_come_before_the_words_after_two_hyphens() -> None:
    """Which are arguments, whatever they look like."""
    shards, _ = jobs("infer", "m", "--out", "o", "--", "-i", array=16)
    assert shards.command_of(3) == ("infer", "m", "--out", "o", "--skip-existing", "--shard", "3/16", "--", "-i")
    checked = check_command(app, _CONFIGS, shards.command_of(3))
    assert isinstance(checked, InferConfig)
    assert (checked.inputs, checked.shard) == ((Path("-i"),), "3/16")


def test_profiles_give_each_command_its_resources(tmp_path: Path) -> None:
    """The command's settings win over those for all, and what is typed over both; unknown names are refused."""
    path = tmp_path / "cluster.yaml"
    path.write_text("all: {partition: cpu, sbatch: {account: lab}}\ntrain: {partition: gpu, gpus: 2, minutes: 99}\n")
    config = SubmitConfig(command=("train",), profiles=path, minutes=5)
    train = resources_for("train", config)
    assert (train.partition, train.gpus, train.minutes, train.sbatch) == ("gpu", 2, 5, {"account": "lab"})
    assert resources_for("evaluate", config).partition == "cpu"
    for text, message in (
        ("train: {gpu: 2}", "train: gpu: Extra inputs"),
        ("trains: {gpus: 2}", "expected all or a command, got trains"),
        ("gpus: 2", "must hold a group of settings"),
        ("train: [", "is not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ClusterError, match=message):
            resources_for("train", config)


def test_a_pipeline_passes_extensions_on(balls: Path, tmp_path: Path) -> None:
    """What reads the dataset reads its references too; of a network that an extension registers no ensemble is made."""
    own = tmp_path / "own.py"
    own.write_text(
        "from unetpipe.components import register\n"
        "from monai.networks.nets import UNet\n"
        "register('network', 'test_pipeline_net')(UNet)\n"
    )
    pipeline = PipelineConfig(
        dataset=balls,
        out=Path("w"),
        preprocess={"extension": f"[{own}]"},
        train={"extension": f"[{own}]", "network": "test_pipeline_net"},
    )
    made = pipeline_jobs(
        SubmitConfig(command=("pipeline",)), pipeline, lambda words: check_command(app, _CONFIGS, words)
    )
    assert [job.name for job in made] == ["preprocess", "train", "evaluate"]
    assert made[2].command[-2:] == ("--extension", str(own))


def test_a_pipeline_leaves_names_inside_an_option_as_they_are(balls: Path) -> None:
    """Only the option itself may be written with hyphens."""
    pipeline = PipelineConfig(
        dataset=balls, out=Path("w"), train={"learning-rate": "1e-3", "class-weights.left-ball": "2"}
    )
    made = pipeline_jobs(SubmitConfig(command=("pipeline",)), pipeline, check)
    assert made[1].command[-4:] == ("--set", "learning_rate=1e-3", "--set", "class_weights.left-ball=2")


@pytest.mark.parametrize(
    ("command", "option", "instead"),
    [
        ("preprocess", "dataset", "DATASET"),
        ("preprocess", "out", "--out"),
        ("train", "work", "--out"),
        ("train", "run-name", "--run-name"),
        ("infer", "models", "--folds"),
        ("infer", "inputs", "--scans"),
        ("infer", "out", "--labels"),
    ],
)
def test_a_pipeline_refuses_what_it_sets_itself(balls: Path, command: str, option: str, instead: str) -> None:
    """It would win over what was given, without a word."""
    given = {"dataset": balls, "out": "w", "scans": "scans", command: {option: "x"}}
    pipeline = PipelineConfig.model_validate(given)
    with pytest.raises(ClusterError, match=f"--{command} {option}=... is not taken: {instead} sets it"):
        pipeline_jobs(SubmitConfig(command=("pipeline",)), pipeline, check)


def test_words_may_be_numbers_and_switches(tmp_path: Path) -> None:
    """As YAML reads them: each becomes what would be typed."""
    path = tmp_path / "cluster.yaml"
    path.write_text("all: {sbatch: {nice: 100, account: lab}, srun: {cpu-freq: '1.5'}}\n")
    found = resources_for("train", SubmitConfig(command=("train",), profiles=path))
    assert (found.sbatch, found.srun) == ({"nice": "100", "account": "lab"}, {"cpu-freq": "1.5"})
    given = {"dataset": "d", "out": "w", "train": {"epochs": 200, "deterministic": True, "ema": 0.0}}
    pipeline = PipelineConfig.model_validate(given)
    assert pipeline.train == {"epochs": "200", "deterministic": "true", "ema": "0.0"}


def test_words_of_slurm_are_as_they_were_written(tmp_path: Path) -> None:
    """Times and numbers that begin with 0 too; of a number whose spelling YAML loses, quotes are asked for."""
    path, config = tmp_path / "cluster.yaml", SubmitConfig(command=("train",), profiles=tmp_path / "cluster.yaml")
    path.write_text("all: {sbatch: {time-min: 10:00:00, begin: 16:00, account: 0123, reservation: 2024_01}}\n")
    words = {"time-min": "10:00:00", "begin": "16:00", "account": "0123", "reservation": "2024_01"}
    assert resources_for("train", config).sbatch == words
    for number in ("24.10", "12e3"):
        path.write_text(f"all: {{srun: {{container-name: {number}}}}}\n")
        with pytest.raises(ClusterError, match=r"srun\.container-name: a number .* must stand between quotes"):
            resources_for("train", config)


def test_a_pipeline_is_a_chain(balls: Path) -> None:
    """Each job waits for the one before; GPUs go to train and infer; the dataset says how many folds there are."""
    given = SubmitConfig(command=("pipeline",), gpus=1, array=2)
    pipeline = PipelineConfig(
        dataset=balls, out=Path("w"), preprocess={"folds": "3"}, train={"epochs": "2"}, scans=Path("scans")
    )
    made = pipeline_jobs(given, pipeline, lambda words: check_command(app, _CONFIGS, words))
    assert [(job.name, job.after, job.resources.gpus, len(job.tasks)) for job in made] == [
        ("preprocess", (), 0, 1),
        ("train", ("preprocess",), 1, 3),
        ("evaluate", ("train",), 0, 1),
        ("bundle", ("train",), 0, 1),
        ("infer", ("train",), 1, 2),
        ("merge", ("infer",), 0, 1),
    ]
    kinds = [PreprocessConfig, TrainConfig, EvaluateConfig, PackageConfig, InferConfig]
    checked = [check_command(app, _CONFIGS, job.command) for job in made[:5]]
    assert all(isinstance(one, kind) for one, kind in zip(checked, kinds, strict=True))
    assert isinstance(checked[1], TrainConfig)
    assert checked[1].epochs == 2
    assert isinstance(checked[3], PackageConfig)
    assert (checked[3].model, checked[3].folds) == (Path("w/runs/default"), "0,1,2")
    assert isinstance(checked[4], InferConfig)
    assert checked[4].models == tuple(Path(f"w/runs/default/fold_{fold}") for fold in range(3))


@pytest.mark.parametrize(("asked", "folds"), [({}, 2), ({"folds": "3"}, 3)])
def test_a_pipeline_trains_the_folds_that_preprocess_will_leave(
    balls: Path, tmp_path: Path, asked: dict[str, str], folds: int
) -> None:
    """Those of the work folder, or as many as are asked for, by which preprocess replaces them."""
    fold = Fold(train=("ball_0",), validation=("ball_1",))
    write_document(tmp_path / "folds.json", Folds(seed=12345, by_patient=False, folds=(fold, fold)))
    pipeline = PipelineConfig(dataset=balls, out=tmp_path, preprocess=asked)
    given = SubmitConfig(command=("pipeline",))
    made = pipeline_jobs(given, pipeline, lambda words: check_command(app, _CONFIGS, words))
    assert [len(job.tasks) for job in made if job.name == "train"] == [folds]
