"""MONAI's config language as far as it is data: ``@`` references, ``%`` macros, and constants among ``$`` expressions.

Only what is asked for is resolved: a config of the Model Zoo also holds a data loader, an evaluator and imports, which
say nothing about the model. The result is plain values; nothing is built and nothing runs.
"""

import re
from collections.abc import Callable
from typing import Any

from unetpipe.bundle.archive import shown
from unetpipe.bundle.foreign.expressions import constant
from unetpipe.errors import BundleError

Values = dict[str, Any]

_ID = re.compile(r"[A-Za-z_][\w]*(?:(?:::|#)\w+)*")
_MACRO_FILE = re.compile(r"(?:\$?@?bundle_root/|\./)?(?:configs/)?([\w-]+\.(?:json|ya?ml))")
_MOST_VALUES = 20_000  # of a resolved config; references to references multiply a short file
_DEEPEST = 100


class ResolvedConfig:
    """A config whose values are given with everything that they refer to in place.

    Args:
        name: Name of the bundle, for messages.
        content: Content of the config.
        sibling: Gives the content of another config of the bundle by its file name, for ``%file::id``.

    Attributes:
        content: Content of the config, as it is written.
    """

    def __init__(self, name: str, content: Values, sibling: Callable[[str], Values]) -> None:
        self._name, self.content, self._sibling = name, content, sibling
        self._left = _MOST_VALUES

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the config's top level, resolved.

        Raises:
            BundleError: If a reference leads nowhere or to itself, or the value is too large.
        """
        self._left = _MOST_VALUES
        return self._resolved(self.content[key], (key,)) if key in self.content else default

    def raw(self, key: str) -> Any:
        """A value of the config's top level as it is written; None where it is missing."""
        return self.content.get(key)

    def resolve(self, value: Any) -> Any:
        """Any part of the config, resolved.

        Raises:
            BundleError: As in `get`.
        """
        self._left = _MOST_VALUES
        return self._resolved(value, ())

    def _resolved(self, value: Any, path: tuple[str, ...]) -> Any:
        self._left -= 1
        if self._left < 0:
            raise BundleError(f"{self._name}: a config grows beyond {_MOST_VALUES} values when it is resolved")
        if len(path) > _DEEPEST:
            raise BundleError(f"{self._name}: references are nested deeper than {_DEEPEST} levels")
        if isinstance(value, dict):
            return {key: self._resolved(item, (*path, "")) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolved(item, (*path, "")) for item in value]
        if not isinstance(value, str):
            return value
        if value.startswith("@"):
            return self._referred(value[1:], path)
        if value.startswith("%"):
            return self._macro(value[1:], path)
        if value.startswith("$"):
            return constant(value, lambda reference: self._referred(reference, path))
        return value

    def _referred(self, reference: str, path: tuple[str, ...]) -> Any:
        if reference in path:
            raise BundleError(f"{self._name}: @{shown(reference)} refers to itself")
        return self._resolved(self._found(self.content, reference), (*path, reference))

    def _macro(self, text: str, path: tuple[str, ...]) -> Any:
        """A part of this config, or of a file beside it, as it is written there."""
        if not (file := _MACRO_FILE.match(text)):
            return self._referred(text, path)
        reference = text[file.end() :].lstrip(":#")
        if text in path:
            raise BundleError(f"{self._name}: %{shown(text)} refers to itself")
        return self._resolved(self._found(self._sibling(file[1]), reference), (*path, text))

    def _found(self, content: Any, reference: str) -> Any:
        if not _ID.fullmatch(reference):
            raise BundleError(f"{self._name}: @{shown(reference)} is no reference that unetpipe follows")
        for part in re.split("::|#", reference):
            if isinstance(content, list) and part.isdecimal() and len(part) < 9 and int(part) < len(content):
                content = content[int(part)]
            elif isinstance(content, dict) and part in content:
                content = content[part]
            else:
                raise BundleError(f"{self._name}: @{shown(reference)} refers to nothing in its config")
        return content
