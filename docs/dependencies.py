"""What unetpipe needs beside itself, and under which licences.

    python docs/dependencies.py licences                          # writes docs/licences.md
    python docs/dependencies.py sbom 0.2.0 dist/unetpipe.cdx.json # CycloneDX, of what requirements.txt pins

Licences are those that installed packages state in their metadata.
"""

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
LOCK = ROOT / "requirements.txt"
EXTRAS = ("cldice", "clinic", "onnx", "openvino")
UNKNOWN = "not stated"
_START = "| package | licence | needed by |\n|---|---|---|\n"
# what packages write where SPDX has a name for it; the first that is found counts
_SPDX = {
    "apache": "Apache-2.0",
    "3-clause": "BSD-3-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd-2": "BSD-2-Clause",
    "bsd": "BSD-3-Clause",
    "mit": "MIT",
    "isc license": "ISC",
    "mozilla public license 2.0": "MPL-2.0",
    "python software foundation": "PSF-2.0",
}
# these have it in a file of their distribution alone
_READ_BY_A_PERSON = {"huey": "MIT", "skops": "MIT", "python-dateutil": "Apache-2.0 AND BSD-3-Clause"}


@dataclass(frozen=True)
class Package:
    """An installed package.

    Attributes:
        name: In lower case, with hyphens.
        licence: SPDX expression, or what the package says where there is none.
        needed_by: `unetpipe`, or the extras that need it.
    """

    name: str
    licence: str
    needed_by: tuple[str, ...]


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed_packages() -> list[Package]:
    """The installed packages that unetpipe and its extras need, directly or not."""
    core = _closure("unetpipe") - {"unetpipe"}
    by_extra = {extra: _closure(f"unetpipe[{extra}]") - core - {"unetpipe"} for extra in EXTRAS}
    extras = {name: tuple(one for one in EXTRAS if name in by_extra[one]) for name in set().union(*by_extra.values())}
    needed = dict.fromkeys(core, ("unetpipe",)) | extras
    return [Package(name, licence_of(name), by) for name, by in sorted(needed.items())]


def _closure(requirement: str) -> set[str]:
    """Names of all installed packages that a requirement leads to."""
    seen: dict[str, set[str]] = {}
    waiting = [Requirement(requirement)]
    while waiting:
        one = waiting.pop()
        name, extras = normal(one.name), set(one.extras)
        if name in seen and extras <= seen[name]:
            continue
        seen[name] = seen.get(name, set()) | extras
        environments = [{"extra": extra} for extra in ("", *seen[name])]
        for text in metadata.requires(name) or ():
            further = Requirement(text)
            if further.marker is None or any(map(further.marker.evaluate, environments)):
                waiting.append(further)
    return set(seen)


def licence_of(name: str) -> str:
    """The licence that an installed package states, by its SPDX expression, its classifiers or its own words."""
    if name in _READ_BY_A_PERSON:
        return _READ_BY_A_PERSON[name]
    about = metadata.metadata(name)
    if "License-Expression" in about:
        return str(about["License-Expression"])
    classifiers = [one.split("::")[-1].strip() for one in about.get_all("Classifier") or () if "License ::" in one]
    said = [*classifiers, *(one.strip().partition("\n")[0] for one in about.get_all("License") or ())]
    return next((spdx for text in said for word, spdx in _SPDX.items() if word in text.lower()), "") or (
        next(filter(None, said), UNKNOWN)
    )


def refreshed(page: str, packages: Iterable[Package]) -> str:
    """The page with a row for each package; rows of packages that are not installed here stay."""
    before, _, table = page.partition(_START)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()}
    rows |= {one.name: f"| {one.name} | {one.licence} | {', '.join(one.needed_by)} |" for one in packages}
    return before + _START + "".join(f"{rows[name]}\n" for name in sorted(rows))


def sbom(version: str) -> dict[str, Any]:
    """A bill of materials of what requirements.txt pins, for all systems, as CycloneDX 1.6 has it.

    It says nothing of when it was made, so that it is the same for the same files.
    """
    known = {package.name: package for package in needed_packages()}
    pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*\])?==([^\s;\\]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _component("unetpipe", version, "Apache-2.0") | {"type": "application"}},
        "components": [_pinned(normal(name), pin, known) for name, pin in pins],
    }


def _pinned(name: str, version: str, known: dict[str, Package]) -> dict[str, Any]:
    package = known.get(name)
    if package is None:  # of another system
        return _component(name, version, None)
    scope = "required" if "unetpipe" in package.needed_by else "optional"
    return _component(name, version, package.licence) | {"scope": scope}


def _component(name: str, version: str, licence: str | None) -> dict[str, Any]:
    reference = f"pkg:pypi/{name}@{version}"
    component = {"type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference}
    return component | ({"licenses": [{"expression": licence}]} if licence else {})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["licences"]:
            PAGE.write_text(refreshed(PAGE.read_text(encoding="utf-8"), needed_packages()), encoding="utf-8")
        case ["sbom", made_version, path]:
            Path(path).write_text(json.dumps(sbom(made_version), indent=1) + "\n", encoding="utf-8")
        case _:
            sys.exit(__doc__)
