"""From a config model to command line options, and back.

Every field becomes an option of the command, so that there is nothing a YAML file can say and a command line cannot.
A field's docstring is its help. Values come from, weakest first: the model's defaults, `--config FILE.yaml`,
`--set a.b=c`, the option itself.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from unetpipe.documents import reason_of
from unetpipe.yaml_text import YamlError, parse_yaml, read_yaml

C = TypeVar("C", bound=BaseModel)

Form = Literal["one", "many", "pairs", "numbers"]

_SHORT = {"out": "-o"}
_METAVARS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


class ConfigError(Exception):
    """Options or a YAML file do not make a valid config. The message has one line per field."""


@dataclass(frozen=True)
class Field:
    """One field of a config, as the command line sees it.

    Attributes:
        name: Name of the field in the model.
        flag: The option, such as ``--max-minutes``.
        kind: The type typer parses: str, int, float, Path, bool or a Literal; None for a nested model, which has no
            option of its own (`--set`).
        form: Whether it takes one value, ``many`` (the option is repeated), ``pairs`` (KEY=VALUE, repeated), or
            ``numbers`` separated by commas.
        info: The field as pydantic describes it.
    """

    name: str
    flag: str
    kind: Any
    form: Form
    info: FieldInfo

    @property
    def repeats(self) -> bool:
        """Whether the option is given once per value."""
        return self.form in ("many", "pairs")


def fields_of(config: type[BaseModel]) -> Iterator[Field]:
    """All fields of a config, in its order."""
    for name, info in config.model_fields.items():
        kind, form = _parsed_as(info.annotation)
        yield Field(name=name, flag=_flag(name), kind=kind, form=form, info=info)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _parsed_as(annotation: Any) -> tuple[Any, Form]:
    """The type that typer parses, and how its values are given."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _parsed_as(arguments[0])
    if origin in (Union, UnionType):
        kinds = [argument for argument in arguments if argument is not NoneType]
        return _parsed_as(kinds[0]) if len(kinds) == 1 else (str, "one")
    if origin is tuple and arguments[1:] == (...,):
        kind = _parsed_as(arguments[0])[0]
        if get_origin(kind) is Literal:  # typer takes only one; the model checks several
            kind = str
        return (str, "numbers") if kind in (int, float) else (kind, "many")
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return str, "pairs"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return None, "one"
    if annotation in (int, float, str, bool, Path) or origin is Literal:
        return annotation, "one"
    return str, "one"


def with_options(
    config: type[BaseModel], arguments: Sequence[str]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a function of `typer.Context` one parameter per field, for typer to read.

    Args:
        config: Model of the command.
        arguments: Fields that are positional arguments. Only the last can take several values; an earlier one that may
            hold several takes one there, and more from an option named by its singular.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        parameters = [_context_parameter()]
        by_name = {field.name: field for field in fields_of(config)}
        for name in arguments:
            split = by_name[name].repeats and name != arguments[-1]
            parameters.append(_argument(by_name[name], many=by_name[name].repeats and not split))
            if split:
                parameters.append(_more(by_name[name]))
        parameters += [_option(field) for name, field in by_name.items() if name not in arguments and field.kind]
        parameters += _common_options()
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # typer reads it
        function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return function

    return decorate


def _context_parameter() -> inspect.Parameter:
    return inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def _argument(field: Field, *, many: bool) -> inspect.Parameter:
    # never required by typer: a YAML file may hold it, and the model says so if nothing does
    metavar = field.name.upper() if many or not field.repeats else _singular(field.name).upper()
    info = typer.Argument(help=_help(field), metavar=metavar, show_default=False)
    return _parameter(field.name, _optional(field.kind, many=many), info, None)


def _more(field: Field) -> inspect.Parameter:
    name = _singular(field.name)
    info = typer.Option(f"--{name}", help=f"A further {name}. May be repeated.", metavar=_metavar(field))
    return _parameter(_more_name(field.name), _optional(field.kind, many=True), info, None)


def _option(field: Field) -> inspect.Parameter:
    default = None if field.info.default is PydanticUndefined else field.info.default
    short = [_SHORT[field.name]] if field.name in _SHORT else []
    declarations = [field.flag, *map(_flag, _former_names(field)), *short]
    notes = [_help(field)]
    if field.info.is_required():
        notes.append("Required.")
    if field.repeats:
        notes.append("May be repeated.")
        default = None
    if field.kind is bool:
        declarations = [f"{field.flag}/--no-{field.flag.removeprefix('--')}"]
    info = typer.Option(
        *declarations, help=" ".join(filter(None, notes)), metavar=_metavar(field), show_default=default is not False
    )
    return _parameter(field.name, _optional(field.kind, many=field.repeats), info, default)


def _former_names(field: Field) -> list[str]:
    """The names that a field had before, or has on the command line."""
    alias = field.info.validation_alias
    names = alias.choices[1:] if isinstance(alias, AliasChoices) else []
    return [name for name in names if isinstance(name, str)]


def _common_options() -> list[inspect.Parameter]:
    config = typer.Option(
        "--config",
        metavar="FILE",
        help="YAML file with any of these fields. What is typed here takes precedence.",
    )
    settings = typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Set one field to a value in YAML; a.b=c sets a field inside a group. May be repeated.",
    )
    as_json = typer.Option("--json", help="Print the result as JSON on stdout, and nothing else.")
    return [
        _parameter("config_file", Path | None, config, None),
        _parameter("settings", list[str] | None, settings, None),
        _parameter("as_json", bool, as_json, False),
    ]


def _parameter(name: str, annotation: Any, info: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, info]
    )


def _help(field: Field) -> str:
    return " ".join((field.info.description or "").replace("`", "").split())


def _metavar(field: Field) -> str | None:
    """Placeholder of the value, in capitals; None for a choice, whose values typer lists by itself."""
    return {"pairs": "KEY=VALUE", "numbers": "A,B,..."}.get(field.form) or _METAVARS.get(field.kind)


def _optional(kind: Any, *, many: bool) -> Any:
    return Union[list[kind] if many else kind, None]  # noqa: UP007 - kind is a value, not a type


def _singular(name: str) -> str:
    return name.removesuffix("s")


def _more_name(name: str) -> str:
    return f"more_{name}"


def config_from(config: type[C], context: typer.Context) -> C:
    """Build a command's config from what was given.

    Raises:
        ConfigError: If a value, a name or the YAML file is not right, or a required one is missing.
    """
    values: dict[str, Any] = {}
    if context.params["config_file"] is not None:
        values = _read_yaml(context.params["config_file"])
    present = {former: field.name for field in fields_of(config) for former in _former_names(field)}
    for former in present.keys() & values.keys():  # so that what is typed takes its place
        values.setdefault(present[former], values[former])
        if values[present[former]] is values[former]:
            del values[former]
    for setting in context.params["settings"] or ():
        _set(values, setting, present)
    for field in fields_of(config):
        given = _given(context, field.name)
        more = _given(context, _more_name(field.name))
        if more is not None:
            given = [*([] if given is None else [given]), *more]
        elif field.repeats and given is not None and not isinstance(given, list):
            given = [given]
        if given is not None:
            values[field.name] = _value(field, given)
    try:
        return config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_describe(fault, context) for fault in error.errors())) from None


def _given(context: typer.Context, parameter: str) -> Any:
    """The value of an option or argument that was typed; None where it was not."""
    source = context.get_parameter_source(parameter)
    return context.params[parameter] if source is not None and source.name == "COMMANDLINE" else None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = read_yaml(path)
    except YamlError as error:
        raise ConfigError(f"--config: {path} {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"--config: {path} must hold `field: value` lines")
    return values


def _set(values: dict[str, Any], setting: str, present: Mapping[str, str]) -> None:
    path, equals, text = setting.partition("=")
    first, *inner = path.split(".")
    *groups, name = (present.get(first, first), *inner)
    if not equals or not name:
        raise ConfigError(f"--set: expected FIELD=VALUE, got {setting!r}")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set: {group} in {setting!r} is a value, not a group of fields")
    try:
        values[name] = parse_yaml(text)
    except YamlError:
        values[name] = text


def _value(field: Field, given: Any) -> Any:
    if field.form == "pairs":
        return _mapping(field.flag, given)
    return given.split(",") if field.form == "numbers" else given


def _mapping(flag: str, pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    for key, equals, _ in split:
        if not (key and equals):
            raise ConfigError(f"{flag}: expected KEY=VALUE, got {key!r}")
    if twice := [key for key, count in Counter(key for key, *_ in split).items() if count > 1]:
        raise ConfigError(f"{flag}: {twice[0]} is given twice: give all of its values at once, as KEY=A,B")
    return {key: value for key, _, value in split}


def _describe(fault: ErrorDetails, context: typer.Context) -> str:
    """Describe one of pydantic's errors in one line that names the option as a person would type it."""
    if not fault["loc"]:  # of several options together, which the reason names; the input would be all of them
        return reason_of(fault)
    name, *inner = map(str, fault["loc"])
    parameter = next((p for p in context.command.params if p.name == name), None)
    if parameter is None:
        shown = ".".join([name, *inner])
    else:
        shown = name.upper() if parameter.param_type_name == "argument" else parameter.opts[0]
    if fault["type"] == "missing":
        return f"{shown} is missing"
    if fault["type"] == "extra_forbidden":
        return f"{shown}: no such field"
    return f"{shown}: {reason_of(fault)}, got {fault['input']!r}"
