"""How another process of this interpreter runs a module of the package."""

import sys
from pathlib import Path


def module_words(module: str) -> tuple[str, ...]:
    """Return the words after ``python`` that run a module.

    By itself ``python -m`` would look for every module in the current folder first. It does so only where this process
    does.
    """
    looks_here = any(Path(entry).resolve() == Path.cwd() for entry in sys.path)
    return (*(() if looks_here else ("-P",)), "-m", module)
