"""Resources of each command, from a YAML file that is written once for a cluster."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unetpipe.cluster.config import Resources, SubmitConfig
from unetpipe.documents import explain
from unetpipe.errors import ClusterError
from unetpipe.yaml_text import YamlError, read_yaml

_FOR_ALL = "all"
COMMANDS = ("preprocess", "train", "infer", "evaluate", "bundle", "merge")


def resources_for(command: str, config: SubmitConfig) -> Resources:
    """Return the resources of a job.

    Args:
        command: Name of the job's command, such as ``train``.
        config: Options of `submit`. Those that were given override the profile of the command, which overrides the
            profile of all commands.

    Raises:
        ClusterError: If the profiles cannot be read, or name an unknown command or setting.
    """
    sections = _read(config.profiles) if config.profiles else {}
    fields = set(Resources.model_fields)
    given = {name: getattr(config, name) for name in fields & config.model_fields_set}
    settings = sections.get(_FOR_ALL, {}) | sections.get(command, {}) | given
    try:
        return Resources.model_validate(settings)
    except ValidationError as error:
        raise ClusterError(explain(f"{config.profiles}: {command}", error)) from None


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        sections = read_yaml(path)
    except YamlError as error:
        raise ClusterError(f"--profiles: {path} {error}") from None
    if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
        raise ClusterError(f"--profiles: {path} must hold a group of settings for each command, or for all")
    if unknown := set(sections) - {_FOR_ALL, *COMMANDS}:
        raise ClusterError(f"--profiles: {path}: expected {_FOR_ALL} or a command, got {', '.join(sorted(unknown))}")
    return sections
