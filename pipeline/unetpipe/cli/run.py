"""One command from its options to its exit code."""

import contextlib
import dataclasses
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import typer
from pydantic import BaseModel

from unetpipe.cli.options import C, ConfigError, config_from
from unetpipe.cli.signals import signals_interrupt
from unetpipe.config.train import TrainConfig
from unetpipe.errors import DatasetError, UnetpipeError, counted, is_out_of_memory
from unetpipe.progress import Progress, SilentProgress
from unetpipe.training.distributed.ranks import find_ranks

Stage = Callable[[C, Progress], BaseModel]

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


def run(context: typer.Context, config_type: type[C], stage: Stage[C]) -> None:
    """Build the config, run the stage, print its result.

    Raises:
        typer.Exit: With 1 if the input is at fault, 2 for wrong usage, 130 if interrupted.
    """
    debug = bool(context.find_root().params.get("debug"))
    as_json = bool(context.params["as_json"])
    with errors_as_lines(context, debug=debug, as_json=as_json), signals_interrupt():
        config = config_from(config_type, context)
        from unetpipe.cli.console import show, shown_on_stderr

        # of the processes that train together, rank 0 shows progress and prints the result
        silent = isinstance(config, TrainConfig) and find_ranks(os.environ).rank > 0
        shown = contextlib.nullcontext(SilentProgress()) if silent else shown_on_stderr()
        # whatever a library prints must not end up between the result's lines
        with contextlib.redirect_stdout(sys.stderr), _libraries_warnings(debug), shown as progress:
            result = stage(config, progress)
        if as_json and not silent:
            typer.echo(result.model_dump_json(indent=2))
        elif not silent:
            show(result)
        code = exit_code(result)
    if code:
        raise typer.Exit(code)


@contextlib.contextmanager
def _libraries_warnings(shown: bool) -> Iterator[None]:
    """Hide the warnings that libraries address to their developers, unless they are to be shown."""
    with warnings.catch_warnings():
        if not shown:
            warnings.simplefilter("ignore")  # they name files, and what is to be known of those is in the result
        yield


def exit_code(result: BaseModel) -> int:
    """Exit code of a stage that ran to its end.

    It may have failed all the same: by a gate that was not passed, a scan that was not segmented, or a job.
    """
    code = getattr(result, "exit_code", None)
    if isinstance(code, int):
        return code
    not_passed = getattr(result, "passed", True) is False
    return FAILED if not_passed or bool(getattr(result, "failed", False)) else 0


@contextlib.contextmanager
def errors_as_lines(context: typer.Context, *, debug: bool, as_json: bool) -> Iterator[None]:
    """Print an error that a person can mend as lines on stderr, and exit with its code.

    Args:
        context: Context of the command.
        debug: Let errors through, so that they end with their traceback.
        as_json: Whether the faults of a dataset are also printed on stdout, as JSON.

    Raises:
        typer.Exit: In place of the error.
    """
    try:
        yield
    except ConfigError as error:
        for line in str(error).splitlines():
            _print_error(line)
        typer.echo(f"See: {context.command_path} --help", err=True)
        raise typer.Exit(WRONG_USAGE) from None
    except KeyboardInterrupt:
        typer.secho("interrupted", fg="red", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except UnetpipeError as error:
        if debug:
            raise
        if isinstance(error, DatasetError):
            _print_faults(error)
            if as_json:
                typer.echo(json.dumps({"faults": [dataclasses.asdict(fault) for fault in error.faults]}, indent=2))
        else:
            _print_error(str(error))
        raise typer.Exit(FAILED) from None
    except OSError as error:
        if debug:
            raise
        _print_error(_system_error(error))
        raise typer.Exit(FAILED) from None
    except Exception as error:
        if debug or not is_out_of_memory(error):
            raise
        _print_error("out of memory")
        raise typer.Exit(FAILED) from None


def _system_error(error: OSError) -> str:
    """What the system says; of a file where a folder was to be made, what is wrong with it."""
    if isinstance(error, FileExistsError) and error.filename is not None and Path(error.filename).is_file():
        return f"{error.filename} is a file; expected a folder"
    return str(error)


def _print_error(message: str) -> None:
    typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(message, err=True)


def _print_faults(error: DatasetError) -> None:
    faults = error.faults
    counts = Counter(fault.severity for fault in faults)
    _print_error(" and ".join(counted(counts[kind], kind) for kind in ("error", "warning") if counts[kind]))
    case = max(len(fault.case) for fault in faults)
    kind = max(len(fault.kind) for fault in faults)
    for fault in faults:
        lead = "warning: " if fault.severity == "warning" else ""
        typer.echo(f"  {fault.case:<{case}}  {fault.kind:<{kind}}  {lead}{fault.message}", err=True)
