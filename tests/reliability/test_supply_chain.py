"""What is installed beside unetpipe: pinned with hashes, free to use, listed, and silent."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PERMISSIVE = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "HPND",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
    ),
    *("PSF-2.0", "Unlicense", "Zlib"),
    "Apache-2.0 WITH LLVM-exception",
    "MPL-2.0",  # asks for the source of its own files alone, where they are changed
}
"""Licences that allow commercial use and put no condition on the code beside them."""


@pytest.fixture
def dependencies(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/dependencies.py."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    import dependencies

    return dependencies


def _locked() -> dict[str, str]:
    """Version of each package in requirements.txt, each with a hash at least."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    locked = {}
    for entry in entries:
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[.*?\])?==([^\s;\\]+)(?: ; [^\\]*)?\s*\\\n", entry)
        assert found is not None, entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), f"{found[1]} has no hash"
        locked[re.sub(r"[-_.]+", "-", found[1]).lower()] = found[2]
    return locked


def test_requirements_pin_all_that_is_needed_with_hashes(dependencies: ModuleType) -> None:
    """Every package that is needed, directly or not, has its version of constraints.txt and hashes: `make lock`."""
    locked = _locked()
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {dependencies.normal(name): version for name, version in (line.split("==") for line in lines)}
    needed = {package.name for package in dependencies.needed_packages()} - {"setuptools"}
    assert needed - locked.keys() == set()
    assert {name: locked[name] for name in locked.keys() & pinned.keys() if locked[name] != pinned[name]} == {}


def test_every_package_may_be_used_commercially(dependencies: ModuleType) -> None:
    """Each states a licence that is known to allow it; one that does not may only come with an extra, by its name."""
    packages = dependencies.needed_packages()
    assert len(packages) > 100
    parts = {package: re.split(r" (?:AND|OR) ", package.licence.strip("()")) for package in packages}
    unknown = {package.name: package.licence for package in packages if set(parts[package]) - PERMISSIVE}
    assert unknown == {}


def test_the_page_of_licences_is_up_to_date(dependencies: ModuleType) -> None:
    """docs/licences.md has every package that is needed here; `make docs` brings it up to date."""
    page = dependencies.PAGE.read_text(encoding="utf-8")
    assert dependencies.refreshed(page, dependencies.needed_packages()) == page, "run `make docs`"


def test_the_bill_of_materials_is_cyclonedx(dependencies: ModuleType) -> None:
    """It follows the schema of CycloneDX 1.6, names every pinned package once, and is the same each time."""
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    text = json.dumps(dependencies.sbom("1.2.3"))
    fault = validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(text)
    assert fault is None, str(fault)
    named = [component["name"] for component in json.loads(text)["components"]]
    assert sorted(named) == sorted(_locked())
    assert json.dumps(dependencies.sbom("1.2.3")) == text


def _run(code: str) -> None:
    """Run code in a process in which nothing says that it is a test, in which libraries are silent by themselves."""
    told = ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in told}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_mlflow_is_silent_though_somebody_imported_it_before(tmp_path: Path) -> None:
    """MLflow, which reports its calls unless it is told not to, is told by the first client, whoever imported it."""
    _run(f"""
from pathlib import Path
from unittest.mock import patch
with patch("threading.Thread.start"):  # what the import itself sends is the importer's
    import mlflow
from mlflow.telemetry.utils import is_telemetry_disabled
assert not is_telemetry_disabled(), "the test would pass without a cause"
from unetpipe.tracking.store import open_store
open_store(Path({str(tmp_path)!r}))
assert is_telemetry_disabled()
""")


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_openvino_is_silent_though_somebody_imported_it_before() -> None:
    """A telemetry that was loaded by another import of OpenVINO hears nothing of what unetpipe converts."""
    _run("""
import sys, types
heard = []
class Telemetry:
    def __init__(self, *_, **__): self.backend = types.SimpleNamespace(app_name="OVC")
    def __getattr__(self, name): return lambda *_, **__: heard.append(name)
backend = types.ModuleType("openvino_telemetry.backend")
backend.backend_ga4 = None
module = types.ModuleType("openvino_telemetry")
module.Telemetry, module.backend = Telemetry, backend
sys.modules |= {"openvino_telemetry": module, "openvino_telemetry.backend": backend}
import openvino.tools.ovc
assert heard, "the test would pass without a cause"
heard.clear()
import torch
from unetpipe.inference.engines.openvino import OpenvinoNetwork
OpenvinoNetwork(torch.nn.Conv3d(1, 2, 3, padding=1), 1, (8, 8, 8), torch.float32)
assert heard == [], heard
""")
