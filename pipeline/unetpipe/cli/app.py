"""The commands. Each imports what it needs when it runs: `unetpipe --help` loads neither torch nor MONAI."""

from collections.abc import Callable, Sequence
from inspect import cleandoc
from typing import Annotated

import typer
from pydantic import BaseModel

from unetpipe.cli.options import C, ConfigError, with_options
from unetpipe.cli.parse import check_command
from unetpipe.cli.run import Stage, run
from unetpipe.config import (
    DemoConfig,
    EvaluateConfig,
    InferConfig,
    InfoConfig,
    PackageConfig,
    PreprocessConfig,
    SubmitConfig,
    TrainConfig,
)
from unetpipe.progress import Progress

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: readable at any width, in a log, and 0.15 s faster
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


_CONFIGS: dict[str, type[BaseModel]] = {}
_SUBMITTABLE = ("preprocess", "train", "infer", "evaluate", "bundle")


def _print_version(wanted: bool) -> None:
    if wanted:
        from unetpipe import __version__

        typer.echo(f"unetpipe {__version__}")
        raise typer.Exit


@app.callback()
def unetpipe(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback, and libraries' warnings.")] = False,
) -> None:
    """From a folder of medical scans to a segmentation model that runs anywhere.

    \b
    unetpipe demo                                       see it work, in minutes
    unetpipe preprocess DATASET --out work              check, plan, prepare
    unetpipe train work --fold 0                        make a model
    unetpipe infer work/runs/default/fold_0 scan.nii.gz --out labels
    unetpipe evaluate labels references --out report
    """


def command(config: type[C], *arguments: str) -> Callable[[Stage[C]], Stage[C]]:
    """Make a function of a config a command: one option per field, `arguments` positional, its docstring the help."""

    def decorate(stage: Stage[C]) -> Stage[C]:
        @with_options(config, arguments)
        def execute(ctx: typer.Context, **_: object) -> None:
            run(ctx, config, stage)

        name = stage.__name__
        _CONFIGS[name] = config
        settings = {"allow_interspersed_args": False} if config is SubmitConfig else {}
        app.command(name, help=cleandoc(stage.__doc__ or ""), context_settings=settings)(execute)
        return stage

    return decorate


@command(PreprocessConfig, "dataset")
def preprocess(config: PreprocessConfig, progress: Progress) -> BaseModel:
    """Check, plan for and prepare a dataset.

    \b
    Example:
      unetpipe preprocess Task04_Hippocampus --out work
    """
    from unetpipe.stages.preprocess import preprocess as stage

    return stage(config, progress)


@command(TrainConfig, "work")
def train(config: TrainConfig, progress: Progress) -> BaseModel:
    """Train one fold, or several, into MONAI bundles in WORK/runs.

    The same command goes on with a run that was interrupted, and leaves a finished one alone.

    \b
    Examples:
      unetpipe train work --fold 0 --max-minutes 60
      unetpipe train work --folds all --epochs 200
    """
    from unetpipe.stages.train import train as stage

    return stage(config, progress)


@command(InferConfig, "models", "inputs")
def infer(config: InferConfig, progress: Progress) -> BaseModel:
    """Segment scans, each on its own grid.

    \b
    Examples:
      unetpipe infer work/runs/default/fold_0 scan.nii.gz dicom_series/ --out labels
      unetpipe infer fold_0 --model fold_1 --model fold_2 scans/ --out labels --tta
    """
    from unetpipe.stages.infer import infer as stage

    return stage(config, progress)


@command(EvaluateConfig, "predictions")
def evaluate(config: EvaluateConfig, progress: Progress) -> BaseModel:
    """Compare label maps with references.

    Dice, HD95, NSD and volumes per case and class, a summary with confidence intervals, and a report.

    The last of several paths is the reference, unless --reference says what is. With --work a single path will do: the
    work folder knows the references.

    \b
    Examples:
      unetpipe evaluate labels references --out report
      unetpipe evaluate ours theirs --reference references --out comparison
      unetpipe evaluate work --cross-validation --out report
    """
    from unetpipe.stages.evaluate import evaluate as stage

    return stage(_last_as_reference(config), progress)


def _last_as_reference(config: EvaluateConfig) -> EvaluateConfig:
    *predictions, last = config.predictions
    if config.reference is not None or config.cross_validation or (config.work is not None and not predictions):
        return config
    if not predictions:
        raise ConfigError("REFERENCE is missing: give it after the predictions, or --reference or --work")
    return config.model_copy(update={"predictions": tuple(predictions), "reference": last})


@command(PackageConfig, "model")
def bundle(config: PackageConfig, progress: Progress) -> BaseModel:  # noqa: ARG001 - every command is given one
    """Check, export and pack a model bundle.

    \b
    Example:
      unetpipe bundle work/runs/default/fold_0 --torchscript --zip hippocampus.zip
    """
    from unetpipe.stages.package import package

    return package(config)


@command(SubmitConfig, "command")
def submit(config: SubmitConfig, progress: Progress) -> BaseModel:
    """Run a command on Slurm, or in the background.

    Where there is no Slurm the command runs as a background process of this machine.

    Options of submit come before the command, options of the command after it.

    \b
    Examples:
      unetpipe submit --gpus 1 --folds all train work
      unetpipe submit --wait infer work/runs/default/fold_0 scans --out labels
    """
    from unetpipe.cluster.submit import one_per_fold
    from unetpipe.cluster.submit import submit as stage

    checked = check_command(app, {name: _CONFIGS[name] for name in _SUBMITTABLE}, config.command)
    commands: Sequence[tuple[str, ...]] = [config.command]
    if config.folds is not None:
        if not isinstance(checked, TrainConfig):
            raise ConfigError("--folds goes with the command train")
        from unetpipe.dataset.folds import read_folds

        commands = one_per_fold(config.command, config.folds, len(read_folds(checked.work).folds))
    return stage(config, commands, progress)


@command(DemoConfig)
def demo(config: DemoConfig, progress: Progress) -> BaseModel:
    """See the whole pipeline work in minutes.

    Makes a small dataset, then preprocesses, trains, infers and evaluates on it.

    \b
    Example:
      unetpipe demo --out demo
    """
    from unetpipe.demo import run_demo

    return run_demo(config, progress)


@command(InfoConfig, "path")
def info(config: InfoConfig, progress: Progress) -> BaseModel:  # noqa: ARG001 - every command is given one
    """Describe this installation, a work folder or a model with its network, or list the series of a DICOM study.

    \b
    Examples:
      unetpipe info
      unetpipe info work/runs/default/fold_0
      unetpipe info study.zip
    """
    from unetpipe.stages.info import info as stage

    return stage(config)
