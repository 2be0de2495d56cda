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
_loaded: dict[Path, str] = {}  # digest of each file as it was last run


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
                importlib.import_module(_module(name))
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

    Raises:
        ExtensionError: If there is no such extension.
    """
    path = _file(named)
    if path is None:
        spec = importlib.util.find_spec(_module(named))
        if spec is None or spec.origin is None:
            raise _absent(named)
        path = Path(spec.origin)
    return _digest(path)


def package_digest(named: str) -> str:
    """SHA-256 of all code of an extension that is a package; empty for a file or a module."""
    spec = None if _file(named) else importlib.util.find_spec(_module(named))
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        return ""
    folder = Path(spec.origin).parent
    inside = sorted(path.relative_to(folder) for path in folder.rglob("*.py"))
    files = [folder / path for path in inside if not any(part.startswith(".") for part in path.parts)]
    return hashlib.sha256("".join(map(_digest, files)).encode()).hexdigest()


def _file(named: str) -> Path | None:
    """The file that is meant; None where a module is."""
    return Path(named).resolve() if named.endswith(".py") else None


def _run_file(path: Path) -> None:
    if not path.is_file():
        raise ExtensionError(f"extension {path.name}: no such file")
    digest = _digest(path)
    if _loaded.get(path) == digest:
        return
    # the name tells files of one name in two folders apart
    name = f"unetpipe_extension_{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(path.read_bytes(), path, "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    _loaded[path] = digest


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


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
