"""What the configs of a bundle name: classes and expressions of MONAI, PyTorch and Ignite, and nothing else."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unetpipe.bundle.archive import shown, walk
from unetpipe.components import TARGET, first_line
from unetpipe.errors import BundleError, listed
from unetpipe.yaml_text import YamlError, parse_yaml

_CONFIG_SUFFIXES = {".json", ".yaml", ".yml"}
_LIBRARIES = ("monai", "torch", "ignite")
_MODULES = {*_LIBRARIES, "glob", "json", "logging", "time"}
_REFUSED_NAMES = {"__import__", "eval", "exec", "compile", "open", "input", "breakpoint", "globals", "locals", "vars"}


def check_targets(folder: Path) -> str:
    """See that everything that MONAI would build or evaluate needs no more than MONAI, and does what it says.

    Returns:
        What was found, in one line.

    Raises:
        BundleError: If a config names another class or module, or is no JSON or YAML.
    """
    foreign, short, count = [], [], 0
    for path in sorted(file for file in (folder / "configs").iterdir() if file.suffix in _CONFIG_SUFFIXES):
        if path.name == "metadata.json":
            continue
        for key, text in _texts(_read(path)):
            count += key == TARGET
            if key == TARGET and text.isidentifier():
                short.append(text)
                continue
            fault = _target_fault(text) if key == TARGET else _expression_fault(text)
            foreign += [f"{path.name}: {shown(fault)}"] if fault else []
    faults = [f"runs only where more than MONAI is installed: {'; '.join(foreign)}"] if foreign else []
    if short:
        names = listed(sorted(set(short)))
        faults.append(f"names without a module, expected such as monai.networks.nets.UNet: {names}")
    if faults:
        raise BundleError("; ".join(faults))
    return f"{count} targets, all of monai, torch or ignite"


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else parse_yaml(text)
    except YamlError as error:
        raise BundleError(f"configs/{path.name} {shown(first_line(error))}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"configs/{path.name} is not JSON: {shown(first_line(error))}") from error


def _texts(config: Any) -> Iterator[tuple[str, str]]:
    """Yield every text in a config with the key that it stands under; those in lists have no key."""
    for one, _ in walk(config):
        pairs = one.items() if isinstance(one, dict) else (("", item) for item in one)
        yield from ((str(key), text) for key, text in pairs if isinstance(text, str))


def _target_fault(target: str) -> str | None:
    return None if target.startswith(tuple(f"{library}." for library in _LIBRARIES)) else target


def _expression_fault(text: str) -> str | None:
    """The forbidden name in an expression; None for other texts."""
    if text.startswith("%") and "::" in text:
        return f"{text} leads to another file"
    if not text.startswith("$"):
        return None
    try:
        # `@` begins references of MONAI's, which are names once they are replaced, and `#` goes on in them
        tree = ast.parse(text[1:].replace("@", "").replace("#", "_").strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return f"{text} is no expression"
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        names = [node.id] if isinstance(node, ast.Name) else [node.attr] if isinstance(node, ast.Attribute) else []
        if any(module.split(".")[0] not in _MODULES for module in modules):
            return text
        if any(name in _REFUSED_NAMES or (name.startswith("__") and name.endswith("__")) for name in names):
            return text
    return None
