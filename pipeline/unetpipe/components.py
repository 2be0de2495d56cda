"""Parts that a person names in place of the package's own, in MONAI's config language or by a registered name.

A part is named by a registered name, such as ``dice_ce``, or by a definition: a mapping whose ``_target_`` is a class
of MONAI or PyTorch, such as ``{"_target_": "monai.losses.HausdorffDTLoss", "alpha": 2.0}``, or a registered name, and
whose other keys are its arguments. An argument may be a definition of the same kind. The package registers its own
names, and an extension that the person named adds others.

Definitions may come from a file that somebody else wrote. So only classes that the modules listed here define are
built, and nothing in a definition is evaluated: ``$`` expressions and ``@`` references are refused.
"""

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator

from unetpipe.errors import ComponentError
from unetpipe.yaml_text import YamlError, parse_yaml

Kind = Literal[
    "loss", "network", "optimizer", "schedule", "augmentation", "preprocessing", "metric", "reader", "tracker"
]
Definition = dict[str, Any]
Factory = Callable[..., Any]

TARGET = "_target_"
DESCRIPTION = "_desc_"

_MODULES: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "loss": ("monai.losses.", "torch.nn."),
        "network": ("monai.networks.nets.",),
        "optimizer": ("torch.optim.", "monai.optimizers."),
        "schedule": ("torch.optim.lr_scheduler.", "monai.optimizers."),
        "augmentation": ("monai.transforms.",),
        "preprocessing": ("monai.transforms.",),
        "metric": ("monai.metrics.",),
        "reader": (),
        "tracker": (),
    }
)
_REGISTERED: dict[tuple[Kind, str], Factory] = {}
_SOURCES: dict[tuple[Kind, str], str] = {}
"""Digest of the file of each part as it was when the part was registered: what runs, whatever is edited meanwhile."""


def register(kind: Kind, name: str) -> Callable[[Factory], Factory]:
    """Register a class or function under a name, from then on and in this process.

    Args:
        kind: Kind of the part.
        name: Name of the part in options and definitions.

    Raises:
        ComponentError: If there is no such kind, or another part of it has the name. A class or function that is
            defined anew, in a notebook or in a file that was edited, takes the place of the one before.
    """
    if kind not in get_args(Kind):
        raise ComponentError(f"a part is one of {', '.join(get_args(Kind))}, got {kind!r}")

    def add(factory: Factory) -> Factory:
        known = _REGISTERED.get((kind, name))
        if known is not None and known is not factory and not _defined_anew(known, factory):
            raise ComponentError(f"two {kind} parts are registered as {name!r}")
        _REGISTERED[kind, name], _SOURCES[kind, name] = factory, _source_digest(factory)
        return factory

    return add


def _defined_anew(known: Factory, factory: Factory) -> bool:
    one, other = ((getattr(made, "__module__", None), getattr(made, "__qualname__", None)) for made in (known, factory))
    return one == other and not str(one[1]).endswith("<lambda>")


def registered(kind: Kind) -> tuple[str, ...]:
    """Words of all registered parts of a kind, sorted."""
    return tuple(sorted(name for known, name in _REGISTERED if known == kind))


def source_digest(kind: Kind, target: Any) -> str:
    """SHA-256 of the file that defined a part when an extension registered it: what was made by it depends on it.

    Returns:
        Empty for the package's own parts and for classes of MONAI and PyTorch, whose versions stand for them.
    """
    return _SOURCES.get((kind, target), "")


def _source_digest(factory: Factory) -> str:
    if f"{factory.__module__}.".startswith("unetpipe."):
        return ""
    try:
        source = Path(inspect.getfile(factory)).read_bytes()
    except (OSError, TypeError):  # defined in a notebook or a shell; its address is another one in each
        source = f"{factory.__module__}.{getattr(factory, '__qualname__', '')}".encode()
    return hashlib.sha256(source).hexdigest()


def parse_definition(value: Any) -> Any:
    """Turn what was typed into a definition: YAML of a mapping becomes one, everything else stays as it is.

    Raises:
        ComponentError: If a text starts like a mapping and is no YAML.
    """
    if not isinstance(value, str) or not (value.lstrip().startswith("{") or TARGET in value):
        return value
    try:
        return parse_yaml(value)
    except YamlError as error:
        raise ComponentError(f"{value!r} {error}") from error


def _typed(value: Any) -> Any:
    try:
        return parse_definition(value)
    except ComponentError as error:
        raise ValueError(str(error)) from None  # which a config's validation gathers


Part = Annotated[str | Definition, BeforeValidator(_typed)]
"""A field of a config that names a part, by its registered name or by a definition, which may be typed as YAML."""


def target_of(named: str | Definition) -> Any:
    """The registered name or the class of a part; None where a definition lacks it."""
    return named if isinstance(named, str) else named.get(TARGET)


def build(kind: Kind, named: str | Definition, **given: Any) -> Any:
    """Build a part from its registered name or its definition.

    Args:
        kind: Kind that the part must have.
        named: Registered name, or a definition.
        given: Arguments that the package passes; what a definition says wins over them.

    Raises:
        ComponentError: If there is no such part, or it cannot be built from these arguments.
    """
    target = target_of(named)
    factory = find(kind, target)
    own = {} if isinstance(named, str) else {name: _plain(kind, value) for name, value in arguments_of(named).items()}
    try:
        return factory(**{**given, **own})
    except Exception as error:  # whatever a foreign constructor makes of its arguments
        raise ComponentError(f"{kind} {target} cannot be built: {first_line(error)}") from error


def arguments_of(definition: Definition) -> Definition:
    """The arguments that a definition passes to its class.

    Raises:
        ComponentError: If it has a key of MONAI's config language that is not followed here, such as ``_mode_``.
    """
    arguments = {name: value for name, value in definition.items() if name not in (TARGET, DESCRIPTION)}
    for name in arguments:
        if name.startswith("_") and name.endswith("_"):
            raise ComponentError(f"{definition.get(TARGET)}: a definition may not have the key {name}")
    return arguments


def _plain(kind: Kind, value: Any) -> Any:
    """Build the definitions inside a value of a definition."""
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise ComponentError(f"{kind} definitions hold plain values, no expressions or references, got {value!r}")
    if isinstance(value, list):
        return [_plain(kind, item) for item in value]
    if isinstance(value, dict):
        return build(kind, value) if TARGET in value else {name: _plain(kind, item) for name, item in value.items()}
    return value


def takes(factory: Factory) -> frozenset[str]:
    """Names of the arguments that a class or function has, so that the package can pass those it knows of."""
    # of a class, its constructor's: `__new__` of MONAI's transforms takes anything
    constructor: Factory = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]  # a class
    return frozenset(inspect.signature(constructor).parameters)


def find(kind: Kind, target: Any) -> Factory:
    """Find a part by its registered name or by the dotted name of a class.

    Raises:
        ComponentError: If there is none, or the name leads out of the modules that parts of this kind come from.
    """
    if not isinstance(target, str) or not target:
        raise ComponentError(f"a {kind} definition needs a {TARGET} that names a class, got {target!r}")
    if (kind, target) in _REGISTERED:
        return _REGISTERED[kind, target]
    if not target.startswith(_MODULES[kind]) or not all(part.isidentifier() for part in target.split(".")):
        known = [*registered(kind), *(f"{module}*" for module in _MODULES[kind])]
        raise ComponentError(
            f"there is no {kind} {target!r}: expected one of {', '.join(known) or 'none registered'}; "
            "words of your own are known where --extension names their file"
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ComponentError(f"{kind} {target}: {error}") from error
    # a module also holds what it imported: a class counts where it is defined
    if not isinstance(found, type) or not f"{found.__module__}.".startswith(_MODULES[kind]):
        raise ComponentError(f"there is no {kind} class {target}")
    return found


def first_line(error: Exception) -> str:
    """First line of a foreign library's error, or the error's name where it has no message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
