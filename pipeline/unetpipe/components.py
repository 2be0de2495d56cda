"""Parts that a person names in place of the package's own, in MONAI's config language or by a registered name.

A part is named by a word, such as ``dice_ce``, or by a definition: a mapping whose ``_target_`` is a class of MONAI or
PyTorch, such as ``{"_target_": "monai.losses.HausdorffDTLoss", "alpha": 2.0}``, whose other keys are its arguments.
What `register` was given, which only code that the person named does, is found by its word as well.

Definitions may come from a file that somebody else wrote, so only classes from the few modules listed here are built,
and nothing in a definition is evaluated: no ``$`` expressions, no references.
"""

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import yaml

from unetpipe.errors import ComponentError

Kind = Literal[
    "loss", "network", "optimizer", "schedule", "augmentation", "preprocessing", "metric", "reader", "tracker"
]
Definition = dict[str, Any]
Factory = Callable[..., Any]

TARGET = "_target_"

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


def register(kind: Kind, name: str) -> Callable[[Factory], Factory]:
    """Make a class or function known by a word, from then on and in this process.

    Args:
        kind: What it is.
        name: The word that options and definitions name it by.

    Raises:
        ComponentError: If another part of this kind has the name.
    """

    def add(factory: Factory) -> Factory:
        known = _REGISTERED.get((kind, name))
        if known is not None and known is not factory:
            raise ComponentError(f"two {kind} parts are registered as {name!r}")
        _REGISTERED[kind, name] = factory
        return factory

    return add


def registered(kind: Kind) -> tuple[str, ...]:
    """Words of all registered parts of a kind, sorted."""
    return tuple(sorted(name for known, name in _REGISTERED if known == kind))


def parse_definition(value: Any) -> Any:
    """Turn what was typed into a definition: YAML of a mapping becomes one, everything else stays as it is.

    Raises:
        ComponentError: If a text looks like a mapping and is no YAML.
    """
    if not isinstance(value, str) or not (value.lstrip().startswith("{") or TARGET in value):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ComponentError(f"{value!r} is no YAML: {' '.join(str(error).split())}") from error


def build(kind: Kind, named: str | Definition, **given: Any) -> Any:
    """Build a part from its word or its definition.

    Args:
        kind: What it has to be.
        named: A registered word, or a definition.
        given: Arguments that the package passes; what a definition says wins over them.

    Raises:
        ComponentError: If there is no such part, or it cannot be built from these arguments.
    """
    definition = {TARGET: named} if isinstance(named, str) else named
    factory = find(kind, definition.get(TARGET))
    own = {key: value for key, value in definition.items() if not (key.startswith("_") and key.endswith("_"))}
    try:
        return factory(**{**given, **own})
    except Exception as error:  # whatever a foreign constructor makes of its arguments
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ComponentError(f"{kind} {definition[TARGET]} cannot be built: {reason}") from error


def find(kind: Kind, target: Any) -> Factory:
    """Look a part up, by a registered word or by the dotted name of a class.

    Raises:
        ComponentError: If there is none, or the name leads out of the modules that parts of this kind come from.
    """
    if not isinstance(target, str) or not target:
        raise ComponentError(f"a {kind} definition needs a {TARGET} that names a class, got {target!r}")
    if (kind, target) in _REGISTERED:
        return _REGISTERED[kind, target]
    if not target.startswith(_MODULES[kind]) or not all(part.isidentifier() for part in target.split(".")):
        known = [*registered(kind), *(f"{module}*" for module in _MODULES[kind])]
        raise ComponentError(f"there is no {kind} {target!r}: expected one of {', '.join(known) or 'none registered'}")
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ComponentError(f"{kind} {target}: {error}") from error
    if not isinstance(found, type):
        raise ComponentError(f"{kind} {target} is no class")
    return found
