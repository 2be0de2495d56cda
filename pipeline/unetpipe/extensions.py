"""Own code that a person names with ``--extension``: importing it registers parts (`unetpipe.components.register`).

An extension is a Python file (``losses.py``), an entry point of an installed package in the group
``unetpipe.extensions``, or an importable module (``my_lab.losses``). Nothing is imported that was not named, and what
was named runs with all the rights of the person who named it.
"""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from unetpipe.errors import ExtensionError

GROUP = "unetpipe.extensions"
"""Entry points of installed packages, such as ``mine = "my_lab.losses"`` under this heading in their pyproject.toml."""

_MACHINERY = (Path(__file__).parent, Path(importlib.__file__).parent)
_noted: dict[Path | str, tuple[str, str]] = {}
"""`_digests_now` of each file and module as it was when it was imported: what runs, whatever is edited meanwhile."""


def load_extensions(named: Sequence[str]) -> None:
    """Import extensions, in order, so that what they register can be named in options.

    A file that has changed since this process imported it is imported anew: its parts take the place of those before.

    Args:
        named: Python files, names of entry points, or dotted names of modules.

    Raises:
        ExtensionError: If one is not there or fails while it is imported; names the file and line.
    """
    for name in named:
        path = _file(name)
        try:
            if path is not None:
                _run_file(path)
            else:
                _import(_module(name))
        except ExtensionError:
            raise
        except (Exception, SystemExit) as error:  # whatever somebody's own code raises
            raise ExtensionError(f"extension {extension_name(name)}: {_reason(error)}") from error


def extension_name(named: str) -> str:
    """Name of an extension for records that may hold no path: a file's own name, else as it was given."""
    path = _file(named)
    return named if path is None else path.name


def extension_digest(named: str) -> str:
    """SHA-256 of the file that an extension consists of, or starts with: what a run that goes on later must find again.

    It is of the file as it was imported, and only where it was not, of the file as it is now.

    Raises:
        ExtensionError: If there is no such extension.
    """
    return _digests(named)[0]


def package_digest(named: str) -> str:
    """SHA-256 of all code of an extension that is a package, in the same way; empty for a file or a module."""
    return _digests(named)[1]


def _digests(named: str) -> tuple[str, str]:
    place = _file(named) or _module(named)
    return _noted.get(place) or _digests_now(place)


def _digests_now(place: Path | str) -> tuple[str, str]:
    """Digests of the file that a path or a module's name leads to, and of all code of a package."""
    if isinstance(place, Path):
        return _digest(place.read_bytes()), ""
    spec = importlib.util.find_spec(place)
    if spec is None or spec.origin is None:
        raise _absent(place)
    start = Path(spec.origin)
    return _digest(start.read_bytes()), _package_digest(start.parent) if spec.submodule_search_locations else ""


def _package_digest(folder: Path) -> str:
    inside = sorted(path.relative_to(folder) for path in folder.rglob("*.py"))
    files = [folder / path for path in inside if not any(part.startswith(".") for part in path.parts)]
    return _digest("".join(_digest(file.read_bytes()) for file in files).encode())


def _file(named: str) -> Path | None:
    """The file that is meant; None where a module is."""
    return Path(named).resolve() if named.endswith(".py") else None


def _run_file(path: Path) -> None:
    if not path.is_file():
        raise ExtensionError(f"extension {path.name}: no such file")
    code = path.read_bytes()
    digests = _digest(code), ""
    if _noted.get(path) == digests:
        return
    # the name tells files of one name in two folders apart
    name = f"unetpipe_extension_{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(code, path, "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    _noted[path] = digests


def _import(module: str) -> None:
    """Import a module, unless this process has."""
    if module in _noted and module in sys.modules:
        return
    digests = _digests_now(module)
    importlib.import_module(module)
    _noted[module] = digests


def _module(named: str) -> str:
    """The module that an entry point or a dotted name leads to.

    Raises:
        ExtensionError: If there is neither.
    """
    found = entry_points(group=GROUP, name=named)
    for entry in found:
        return entry.module
    try:
        if all(part.isidentifier() for part in named.split(".")) and importlib.util.find_spec(named):
            return named
    except ModuleNotFoundError:  # of a package that it should lie in
        pass
    raise _absent(named)


def _absent(named: str) -> ExtensionError:
    installed = ", ".join(sorted(entry.name for entry in entry_points(group=GROUP))) or "none"
    return ExtensionError(
        f"there is no extension {named!r}: expected a .py file, an importable module, "
        f"or an installed extension ({installed})"
    )


def _reason(error: BaseException) -> str:
    """Describe an error in one line, with the file and line of the extension that it comes from."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error}"  # which names both
    foreign = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and Path(frame.filename).parent not in _MACHINERY
    ]
    # not the library in which it was raised, which the extension called
    own = [frame for frame in foreign if Path(frame.filename).parent == Path(foreign[0].filename).parent]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return " ".join(f"{type(error).__name__}: {error}{place}".split())


def _digest(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest()
