"""Lists of MONAI's transforms in a config, and arguments that are understood one by one."""

from collections.abc import Iterator
from typing import Any

from unetpipe.bundle.archive import shown
from unetpipe.bundle.foreign.expressions import Expression
from unetpipe.components import DESCRIPTION, TARGET, Definition
from unetpipe.errors import BundleError

_TRUE, _FALSE = (True, "true", "True", 1), (False, "false", "False", 0, None)
_DISABLED = "_disabled_"
_ABOUT_BUILDING = {TARGET, DESCRIPTION, _DISABLED}


class ForeignComponent:
    """A definition of which arguments are taken one by one; what is left over at the end is not understood.

    Args:
        where: Key of the config that holds it, for messages.
        definition: The resolved definition.

    Attributes:
        name: Last part of its class's name, such as ``Spacingd``.
    """

    def __init__(self, where: str, definition: Definition) -> None:
        self._where = where
        target = definition.get(TARGET)
        if not isinstance(target, str) or isinstance(target, Expression):
            raise BundleError(f"{where}: expected a {TARGET} that names a class, got {shown(repr(target))}")
        module, _, self.name = target.rpartition(".")
        if module and not f"{module}.".startswith("monai."):
            raise self.refused(f"{target} is not a class of MONAI's")
        self._arguments = {key: value for key, value in definition.items() if key not in _ABOUT_BUILDING}

    def refused(self, reason: str) -> BundleError:
        """The error that says why this definition cannot be taken."""
        return BundleError(f"{self._where}: {shown(reason)}")

    def take(self, key: str, default: Any = None) -> Any:
        """The value of an argument, which is a plain one.

        Raises:
            BundleError: If it is an expression, or holds one.
        """
        value = self._arguments.pop(key, default)
        if (found := next(_expressions(value), None)) is not None:
            raise self.refused(f"{self.name}: {key} is an expression, which is not evaluated: {found}")
        return value

    def flag(self, key: str, *, default: bool = False) -> bool:
        """The value of an argument that is true or false; both may be written as texts."""
        value = self.take(key, default)
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise self.refused(f"{self.name}: {key} must be true or false, got {value!r}")

    def unread(self, key: str) -> Any:
        """The value of an argument that may be or hold an expression, to be compared or parsed."""
        return self._arguments.pop(key, None)

    def ignore(self, *keys: str) -> None:
        """Leave out arguments that do not change the result."""
        for key in keys:
            self._arguments.pop(key, None)

    def rest(self) -> Definition:
        """All arguments that have not been taken."""
        return {key: self.take(key) for key in list(self._arguments)}

    def require_all_taken(self) -> None:
        """See that no argument is left.

        Raises:
            BundleError: If one is; names it.
        """
        for key, value in self._arguments.items():
            raise self.refused(f"{self.name}: the argument {key}={value!r} is not understood")


def transforms_of(where: str, config: Any) -> Iterator[ForeignComponent]:
    """Yield the transforms of a ``Compose``, or of a list, in order, without those that are disabled.

    Raises:
        BundleError: If it is something else or disabled as a whole, or a transform is none of MONAI's.
    """
    if _is_compose(config):
        if _is_disabled(where, config):
            raise BundleError(f"{where}: its Compose is disabled, and MONAI runs nothing in its place")
        yield from transforms_of(where, config.get("transforms"))
        return
    if not isinstance(config, list):
        raise BundleError(f"{where}: expected a Compose of transforms, got {shown(repr(config))}")
    for item in config:
        if not isinstance(item, dict):
            raise BundleError(f"{where}: expected transforms, got {shown(repr(item))}")
        if _is_disabled(where, item):
            continue
        if _is_compose(item):
            yield from transforms_of(where, item)
        else:
            yield ForeignComponent(where, item)


def _is_compose(config: Any) -> bool:
    return isinstance(config, dict) and str(config.get(TARGET)).rpartition(".")[2] == "Compose"


def _is_disabled(where: str, config: Definition) -> bool:
    """Whether MONAI leaves a component out, by the rule of its `ConfigComponent.is_disabled`."""
    value = config.get(_DISABLED, False)
    if isinstance(value, Expression):
        raise BundleError(f"{where}: {_DISABLED} is an expression, which is not evaluated: {shown(value)}")
    return value.lower().strip() == "true" if isinstance(value, str) else bool(value)


def _expressions(value: Any) -> Iterator[str]:
    if isinstance(value, Expression):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _expressions(item)
