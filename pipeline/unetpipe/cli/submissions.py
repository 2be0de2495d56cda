"""What `unetpipe submit` is followed by: a command of unetpipe, a whole pipeline, or a word about submissions."""

from collections.abc import Callable, Sequence
from inspect import cleandoc

import typer
from pydantic import BaseModel

from unetpipe.cli.options import ConfigError, with_options
from unetpipe.cli.pairs import CommandWithPairs
from unetpipe.cli.parse import check_command
from unetpipe.cluster.config import PipelineConfig, SubmissionConfig, SubmitConfig
from unetpipe.progress import Progress

_HELP = {
    "pipeline": """Submit a whole pipeline: preprocess, train each fold, evaluate, and segment further scans.

    Each job waits for those before it. Where one fails, those that depend on it do not run.

    \\b
    Example:
      unetpipe submit --profiles cluster.yaml pipeline DATASET --out work --train epochs=200
    """,
    "status": "Show how far each task of a submission is.",
    "logs": "Show the last lines of what each task of a submission has printed.",
    "cancel": "Cancel what has not ended of a submission.",
    "retry": "Submit again the tasks of a submission that failed, and those that depend on them.",
}
_CONFIGS: dict[str, type[BaseModel]] = {"pipeline": PipelineConfig} | dict.fromkeys(
    ("status", "logs", "cancel", "retry"), SubmissionConfig
)


def submit(config: SubmitConfig, progress: Progress, check: Callable[[Sequence[str]], BaseModel]) -> BaseModel:
    """Do what a command line of `unetpipe submit` asks for.

    Args:
        config: Options of submit itself, with the command line that follows them.
        progress: Shows jobs that end.
        check: Parses a command of unetpipe into its config.

    Raises:
        ConfigError: If an option of the words is not right.
        ClusterError: If nothing can be submitted.
    """
    from unetpipe.cluster.campaigns import jobs_of
    from unetpipe.cluster.pipeline import pipeline_jobs
    from unetpipe.cluster.submit import submit_jobs

    name = config.command[0]
    if name not in _CONFIGS:
        return submit_jobs(config, jobs_of(config, check(config.command)), progress)
    if "--json" in config.command:
        raise ConfigError(f"--json comes before {name}")
    asked = check_command(_app(), _CONFIGS, config.command, program="unetpipe submit")
    if isinstance(asked, PipelineConfig):
        return submit_jobs(config, pipeline_jobs(config, asked, check), progress)
    assert isinstance(asked, SubmissionConfig)
    return _control(name, config, asked, progress)


def _control(name: str, config: SubmitConfig, which: SubmissionConfig, progress: Progress) -> BaseModel:
    from unetpipe.cluster.control import cancel, retry, show_logs, show_status

    if name == "retry":
        return retry(config, which, progress)
    return {"status": show_status, "logs": show_logs, "cancel": cancel}[name](config, which)


def _app() -> typer.Typer:
    """The words that are no command of unetpipe, for their options and help alone."""
    app = typer.Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})
    for name, config in _CONFIGS.items():

        @with_options(config, ["dataset" if config is PipelineConfig else "number"])
        def parsed_only(ctx: typer.Context, **_: object) -> None: ...

        app.command(name, cls=CommandWithPairs, help=cleandoc(_HELP[name]))(parsed_only)
    return app
