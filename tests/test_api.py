"""What `import unetpipe` offers, and what it leaves alone."""

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import unetpipe
import unetpipe.config
import unetpipe.errors

SOURCE = Path(unetpipe.__file__)
# What a process has that an import could change. Of a warning filter, what it is about; the module as text, since
# compiled patterns do not compare.
STATE = """
import gc, json, os, sys, threading, warnings

def state():
    import SimpleITK, pydicom.config, torch
    return {
        "environment": dict(os.environ),
        "warnings": [(action, str(text), kind.__name__, str(module), line)
                     for action, text, kind, module, line in warnings.filters],
        "torch threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "pydicom": {k: str(v) for k, v in vars(pydicom.config.settings).items()},
        "ITK's warnings": SimpleITK.ProcessObject.GetGlobalWarningDisplay(),
        "garbage collector": gc.get_threshold(),
        "threads": threading.active_count(),
    }
"""
MODULES = """
import importlib, pkgutil, unetpipe
names = [m.name for m in pkgutil.walk_packages(unetpipe.__path__, "unetpipe.") if m.name != "unetpipe.__main__"]
"""


def _python(code: str) -> str:
    """What it prints; the code goes in by stdin, since a command line has not room for all."""
    done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout


def test_every_name_is_there() -> None:
    """Each public name is the object that its module defines, and `dir` shows exactly these."""
    assert dir(unetpipe) == sorted(unetpipe.__all__)
    for name in unetpipe.__all__:
        found = getattr(unetpipe, name)
        if name != "__version__":
            assert getattr(importlib.import_module(found.__module__), name) is found


def test_type_checkers_see_the_same_names() -> None:
    """What is imported for type checkers, from where, is what is handed on when the package runs."""
    block = next(node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    seen = {name.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert {*seen, "__version__"} == set(unetpipe.__all__)
    for name, module in seen.items():
        assert getattr(unetpipe, name).__module__ == module


def test_nothing_that_a_stage_takes_gives_or_raises_is_left_out() -> None:
    """Every stage's config and result, and every error, is public; the demo is a command and not a stage."""
    errors = {
        name
        for name, found in vars(unetpipe.errors).items()
        if isinstance(found, type) and issubclass(found, Exception)
    }
    modules = pkgutil.iter_modules(unetpipe.config.__path__, "unetpipe.config.")
    names = {name for module in modules for name in vars(importlib.import_module(module.name))}
    configs = {name for name in names if name.endswith("Config")} - {"Config", "DemoConfig"}
    stages = [getattr(unetpipe, config.removesuffix("Config").lower()) for config in configs]
    hints = [typing.get_type_hints(stage)["return"] for stage in stages]
    results = {one.__name__ for hint in hints for one in typing.get_args(hint) or [hint]}
    assert errors | configs | results <= set(unetpipe.__all__)


def test_the_reference_has_every_name() -> None:
    """By itself or with all of its module."""
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    shown = {line.removeprefix("::: ") for line in page.splitlines() if line.startswith("::: ")}
    for name in set(unetpipe.__all__) - {"__version__"}:
        home = getattr(unetpipe, name).__module__
        assert {home, f"{home}.{name}"} & shown, name


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As in any module, so that hasattr and getattr with a default work."""
    with pytest.raises(AttributeError, match="has no attribute 'segment'"):
        _ = unetpipe.segment
    assert not hasattr(unetpipe, "sgement")


def test_importing_the_package_loads_nothing_of_it() -> None:
    """`import unetpipe` costs no import but the standard library's."""
    code = "import sys\nbefore = set(sys.modules)\nimport unetpipe\nprint(*set(sys.modules) - before)"
    loaded = {name.partition(".")[0] for name in _python(code).split()}
    assert loaded - sys.stdlib_module_names == {"unetpipe"}


@pytest.mark.slow
def test_importing_changes_nothing_in_the_process() -> None:
    """Importing every module leaves environment, warning filters, threads and libraries' settings as they were.

    What other libraries change while they are imported is theirs: they are imported first.
    """
    listing = MODULES + "import sys, json\nfor name in names: importlib.import_module(name)\n"
    listing += "print(json.dumps([n for n in sys.modules if n.partition('.')[0] != 'unetpipe']))"
    foreign = json.loads(_python(listing))
    code = STATE + f"import importlib\nfor name in {foreign!r}:\n"
    code += "    try: importlib.import_module(name)\n    except Exception: pass\n"
    code += f"before = state()\n{MODULES}for name in names: importlib.import_module(name)\n"
    code += "print(json.dumps([before, state()]))"
    before, after = json.loads(_python(code))
    assert after == before


@pytest.mark.parametrize(
    ("setup", "expected"),
    [("", ""), ("logging.basicConfig(stream=sys.stdout)", "WARNING:unetpipe.stages:of a scan\n")],
)
def test_library_use_is_silent_until_logging_is_configured(setup: str, expected: str) -> None:
    """Without configuration not even a warning is printed; with it, the lines are there under their module's name."""
    code = f"import logging, sys, unetpipe\n{setup}\nlogging.getLogger('unetpipe.stages').warning('of a scan')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert (done.stdout, done.stderr) == (expected, "")
