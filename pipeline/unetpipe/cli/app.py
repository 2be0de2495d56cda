"""The commands. Each imports what it needs when it runs: `unetpipe --help` loads neither torch nor MONAI."""

from collections.abc import Callable, Sequence
from inspect import cleandoc
from typing import Annotated

import typer
from pydantic import BaseModel

from unetpipe.cli.options import C, ConfigError, with_options
from unetpipe.cli.pairs import CommandWithPairs
from unetpipe.cli.parse import check_command
from unetpipe.cli.run import Stage, run
from unetpipe.cluster.config import SubmitConfig
from unetpipe.config.demo import DemoConfig
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.infer import MergeConfig
from unetpipe.config.info import InfoConfig
from unetpipe.config.models import ModelsConfig
from unetpipe.config.package import PackageConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.sync import SyncConfig
from unetpipe.config.train import TrainConfig
from unetpipe.progress import Progress
from unetpipe.service.config import ArchiveInferConfig, ListenConfig

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: readable at any width, in a log, and 0.15 s faster
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


_CONFIGS: dict[str, type[BaseModel]] = {}
_SUBMITTABLE = ("preprocess", "train", "infer", "evaluate", "bundle", "merge")


def _print_version(wanted: bool) -> None:
    if wanted:
        from unetpipe import __version__

        typer.echo(f"unetpipe {__version__}")
        raise typer.Exit


@app.callback()
def unetpipe(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors, and warnings of libraries.")
    ] = False,
) -> None:
    """From a folder of medical scans to a segmentation model that runs anywhere.

    \b
    unetpipe demo                                       run all of it on a small dataset, in minutes
    unetpipe preprocess DATASET --out work              check a dataset, plan for it, preprocess it
    unetpipe train work --fold 0                        train a model
    unetpipe infer work/runs/default/fold_0 scan.nii.gz --out labels
    unetpipe evaluate labels references --out report
    """


def command(config: type[C], *arguments: str) -> Callable[[Stage[C]], Stage[C]]:
    """Make a command of a function that takes a config.

    Args:
        config: Has one option per field.
        arguments: Fields that are positional arguments.

    Returns:
        The function as it is; its docstring is the help of the command.
    """

    def decorate(stage: Stage[C]) -> Stage[C]:
        @with_options(config, arguments)
        def execute(ctx: typer.Context, **_: object) -> None:
            run(ctx, config, stage)

        name = stage.__name__
        _CONFIGS[name] = config
        settings = {"allow_interspersed_args": False} if config is SubmitConfig else {}
        app.command(name, cls=CommandWithPairs, help=cleandoc(stage.__doc__ or ""), context_settings=settings)(execute)
        return stage

    return decorate


@command(PreprocessConfig, "dataset")
def preprocess(config: PreprocessConfig, progress: Progress) -> BaseModel:
    """Check a dataset, plan for it and preprocess its cases.

    Nothing is written before every case has passed its checks. The same command brings a work folder up to date.

    \b
    Examples:
      unetpipe preprocess Task04_Hippocampus --check
      unetpipe preprocess Task04_Hippocampus --out work
    """
    from unetpipe.stages.preprocess import preprocess as stage

    return stage(config, progress)


@command(TrainConfig, "work")
def train(config: TrainConfig, progress: Progress) -> BaseModel:
    """Train one fold or several, each into a MONAI bundle.

    Bundles are made in WORK/runs. The same command continues a run that was interrupted, and leaves a finished one
    alone.

    \b
    Examples:
      unetpipe train work --fold 0 --max-minutes 60
      unetpipe train work --folds all --epochs 200
      unetpipe train work --loss '{_target_: monai.losses.HausdorffDTLoss}' --run-name hausdorff
    """
    from unetpipe.stages.train import train as stage

    return stage(config, progress)


@command(ArchiveInferConfig, "models", "inputs")
def infer(config: ArchiveInferConfig, progress: Progress) -> BaseModel:
    """Segment scans, each on its own grid.

    Several models are averaged. A scan that fails is named in the result, and the others are segmented. With --dicomweb
    studies are fetched from a server, and their segmentations stored in it.

    \b
    Examples:
      unetpipe infer work/runs/default/fold_0 scan.nii.gz dicom_series/ --out labels
      unetpipe infer fold_0 --model fold_1 --model fold_2 scans/ --out labels --tta
      unetpipe infer liver.zip --dicomweb https://pacs.hospital/dicom-web --study 1.2.840.1 --out labels
    """
    from unetpipe.service.archive import infer_from_archive

    return infer_from_archive(config, progress)


@command(EvaluateConfig, "predictions")
def evaluate(config: EvaluateConfig, progress: Progress) -> BaseModel:
    """Compare label maps with reference labels.

    Writes Dice, HD95, NSD and volumes per case and class, a summary with confidence intervals, and a report.

    The last of several paths is the reference, unless --reference is given. With --work a single path is enough, since
    the work folder names the references.

    \b
    Examples:
      unetpipe evaluate labels references --out report
      unetpipe evaluate ours theirs --reference references --out comparison
      unetpipe evaluate work --cross-validation --out report
      unetpipe evaluate work --cross-validation --choose --out best
    """
    if config.choose:
        from unetpipe.choice.choose import choose

        return choose(config, progress)
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
    """Check a model bundle, export its network, pack it and register it.

    Nothing is exported, packed or registered if a check fails.

    \b
    Examples:
      unetpipe bundle work/runs/default/fold_0 --torchscript --zip hippocampus.zip
      unetpipe bundle work/runs/default --folds all --out hippocampus --authors 'A. Author, A University'
      unetpipe bundle work/runs/default/fold_0 --register hippocampus --alias champion
    """
    from unetpipe.stages.package import package

    return package(config)


@command(ModelsConfig, "action")
def models(config: ModelsConfig, progress: Progress) -> BaseModel:  # noqa: ARG001 - every command is given one
    """List the bundles that can be called by their names.

    These are the ones that ship with unetpipe and those in the folder that UNETPIPE_BUNDLES names; infer and info take
    their names in place of a path.

    \b
    Example:
      unetpipe models list
    """
    from unetpipe.stages.models import models as stage

    return stage(config)


@command(SyncConfig, "runs")
def sync(config: SyncConfig, progress: Progress) -> BaseModel:  # noqa: ARG001 - every command is given one
    """Send a tracking store what it missed of trainings.

    A store that did not answer, or another one than trainings wrote to, gets what it does not have, from the runs' own
    folders. The same call again changes nothing.

    \b
    Examples:
      unetpipe sync work/runs/default/fold_0
      unetpipe sync work/runs/default work/runs/wide
    """
    from unetpipe.stages.sync import sync as stage

    return stage(config)


@command(MergeConfig, "out")
def merge(config: MergeConfig, progress: Progress) -> BaseModel:  # noqa: ARG001 - every command is given one
    """Merge what the shards of infer have reported into one predictions.json.

    Refuses where a shard is missing or did not come to its end.

    \b
    Example:
      unetpipe merge labels --shards 16
    """
    from unetpipe.stages.merge import merge as stage

    return stage(config)


@command(SubmitConfig, "command")
def submit(config: SubmitConfig, progress: Progress) -> BaseModel:
    """Run commands as jobs, on Slurm or in the background.

    Where Slurm is not installed they run one after the other in a background process of this machine. Options of submit
    stand before the command, options of the command after it.

    \b
    Examples:
      unetpipe submit --gpus 1 --folds all train work
      unetpipe submit --nodes 2 --gpus 4 train work
      unetpipe submit --gpus 1 --array 16 infer work/runs/default/fold_0 scans --out labels
      unetpipe submit --profiles cluster.yaml pipeline DATASET --out work
      unetpipe submit status
    """
    from unetpipe.cli.submissions import submit as stage

    return stage(config, progress, _submittable)


def _submittable(words: Sequence[str]) -> BaseModel:
    config = check_command(app, {name: _CONFIGS[name] for name in _SUBMITTABLE}, words)
    if isinstance(config, ArchiveInferConfig) and config.dicomweb is not None:
        raise ConfigError("infer: --dicomweb cannot be submitted: scripts and logs of the job would name the study")
    if isinstance(config, EvaluateConfig) and not config.choose:
        try:
            _last_as_reference(config)
        except ConfigError as error:
            raise ConfigError(f"evaluate: {error}") from None
    return config


@command(ListenConfig)
def listen(config: ListenConfig, progress: Progress) -> BaseModel:  # noqa: ARG001 - every command is given one
    """Receive studies as a DICOM node, segment them and send the segmentations.

    The models are loaded once. Ctrl-C or SIGTERM ends the node after the study that is being segmented. What was
    received and not done is done after the next start, also where the process was killed.

    \b
    Examples:
      unetpipe listen --model liver.zip --out node --caller ORTHANC --send-to ORTHANC@127.0.0.1:4242
      unetpipe listen --rules rules.yaml --out node --host 0.0.0.0 --caller CT1 --caller MR1
    """
    from unetpipe.service.listen import listen as serve

    return serve(config)


@command(DemoConfig)
def demo(config: DemoConfig, progress: Progress) -> BaseModel:
    """Run the whole pipeline on a small dataset, in minutes.

    The dataset is made and preprocessed, a network is trained on it, and scans that were held out are segmented and
    evaluated.

    \b
    Example:
      unetpipe demo --out demo
    """
    from unetpipe.demo import run_demo

    return run_demo(config, progress)


@command(InfoConfig, "path")
def info(config: InfoConfig, progress: Progress) -> BaseModel:  # noqa: ARG001 - every command is given one
    """Describe an installation, a dataset, a model or DICOM files.

    Of a work folder and of a model the network is drawn, with what each of its stages costs; of a DICOM study the
    series are listed. Without a path this installation is described.

    \b
    Examples:
      unetpipe info
      unetpipe info work/runs/default/fold_0
      unetpipe info study.zip
    """
    from unetpipe.stages.info import info as stage

    return stage(config)
