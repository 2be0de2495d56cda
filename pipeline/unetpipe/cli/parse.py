"""Check a command without running it: a job should not wait in a queue for hours to fail on a typing mistake."""

from collections.abc import Mapping, Sequence

import typer
from pydantic import BaseModel
from typer.main import get_command

from unetpipe.cli.options import ConfigError, config_from


def check_command(
    app: typer.Typer, configs: Mapping[str, type[BaseModel]], words: Sequence[str], program: str = "unetpipe"
) -> BaseModel:
    """Parse a command line and build its config.

    Args:
        app: Whose command it is.
        configs: Configs by command name; only these may be given.
        words: The command with its arguments and options.
        program: Shown before the command's name in its help.

    Returns:
        The command's config.

    Raises:
        ConfigError: If there is no such command, or an option or value is not right.
    """
    name, *rest = words
    if name not in configs:
        raise ConfigError(f"expected one of the commands {', '.join(configs)}, got {name!r}")
    group = get_command(app)
    context = group.make_context(program, [name], resilient_parsing=True)
    found = group.get_command(context, name)  # type: ignore[attr-defined] # the app is a group
    try:
        return config_from(configs[name], found.make_context(name, rest, parent=context))
    except ConfigError as error:
        raise ConfigError("\n".join(f"{name}: {line}" for line in str(error).splitlines())) from None
