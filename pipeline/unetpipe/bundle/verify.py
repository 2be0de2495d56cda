"""Checks that a bundle is complete, runs without unetpipe, and holds no trace of a machine or a person."""

import getpass
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from unetpipe.bundle.archive import PARTS, open_bundle, read_metadata, shown
from unetpipe.bundle.conformity import check_metadata, check_sizes, check_workflows
from unetpipe.bundle.exports import EXPORTED_FILES, require_exports_fit
from unetpipe.bundle.large_files import LARGE_FILES
from unetpipe.bundle.limits import parse_spec
from unetpipe.bundle.read import Bundle, read_bundle
from unetpipe.bundle.spec import BundlePart, ModelSpec
from unetpipe.bundle.targets import check_targets
from unetpipe.bundle.torchscript import SCRIPT, load_torchscript
from unetpipe.components import first_line
from unetpipe.documents import Record
from unetpipe.errors import BundleError, UnetpipeError

NEEDED_FILES = (
    "configs/metadata.json",
    "configs/inference.json",
    "configs/train.json",
    "configs/evaluate.json",
    "configs/multi_gpu_train.json",
    "configs/multi_gpu_evaluate.json",
    "configs/logging.conf",
    "docs/README.md",
    "docs/data_license.txt",
    "LICENSE",
)
_TEXT_SUFFIXES = {".json", ".yaml", ".yml", ".md", ".txt", ".conf", ".csv", ""}

_PATH = re.compile(r"(?<![\w.])/(?:home|Users|root|mnt|media|scratch|tmp|srv|Volumes)/[\w.-]+|\b[A-Za-z]:\\\w")
_UID = re.compile(r"\b[0-2](?:\.\d+){5,}\b")  # DICOM: dotted numbers, longer than any version
# names that say nothing of a person, and that a bundle holds as words
_SHARED_ACCOUNTS = {
    *("root", "user", "admin", "ubuntu", "jenkins", "runner", "monai", "bundle", "model", "train", "data"),
    "unetpipe",  # that of the project's own image
}


class Check(Record):
    """Result of one check.

    Attributes:
        name: Name of the check.
        passed: Whether the bundle passed it.
        message: What was found, and where the check failed, what was expected.
    """

    name: str
    passed: bool
    message: str


def verify_bundle(folder: Path) -> tuple[Check, ...]:
    """Run every check; those that need a missing file fail.

    Raises:
        BundleError: If there is no such folder.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a bundle's folder" + ("; unpack it first" if folder.is_file() else ""))
    checks: dict[str, Callable[[Path], str]] = {
        "files": _files,
        "metadata": check_metadata,
        "targets": check_targets,
        "workflows": check_workflows,
        "sizes": check_sizes,
        "weights": _weights,
        "exports": _exports,
        "privacy": _privacy,
    }
    if _parts(folder):
        checks["parts"] = _check_parts
    return tuple(_checked(name, check, folder) for name, check in checks.items())


def _checked(name: str, check: Callable[[Path], str], folder: Path) -> Check:
    try:
        return Check(name=name, passed=True, message=check(folder))
    except UnetpipeError as error:
        return Check(name=name, passed=False, message=str(error))
    except Exception as error:  # of whatever kind a value of another type than expected leads to
        return Check(name=name, passed=False, message=f"cannot be checked: {shown(first_line(error))}")


def _files(folder: Path) -> str:
    weights = _weight_files(folder)
    missing = [name for name in (*NEEDED_FILES, *weights) if not (folder / name).is_file()]
    if missing:
        raise BundleError(f"missing: {', '.join(missing)}")
    known = {folder / SCRIPT, *(folder / name for name in (*weights, *EXPORTED_FILES))}
    parts = [folder / part.folder for part in _parts(folder)]
    unknown = [
        file
        for file in bundle_files(folder)
        if (file.is_relative_to(folder / "models") and file not in known)
        or (file.is_relative_to(folder / PARTS) and not any(map(file.is_relative_to, parts)))
    ]
    if unknown:
        raise BundleError(f"not written by unetpipe, and so not checked: {_names(folder, unknown)}")
    links = [file for file in bundle_files(folder) if not file.resolve().is_relative_to(folder.resolve())]
    if links:
        raise BundleError(f"links out of the folder, whose content would be packed: {_names(folder, links)}")
    return f"all {len(NEEDED_FILES) + len(weights)} are there"


def _weight_files(folder: Path) -> tuple[str, ...]:
    """The files of weights that the bundle's spec names; a check of its own says so where it has none."""
    spec = _spec(folder)
    return spec.weight_files if spec else ("models/model.pt",)


def _parts(folder: Path) -> tuple[BundlePart, ...]:
    spec = _spec(folder)
    return spec.parts if spec else ()


def _spec(folder: Path) -> ModelSpec | None:
    try:
        return parse_spec(folder.name, read_metadata(folder))
    except BundleError:
        return None


def _check_parts(folder: Path) -> str:
    """Each bundle inside of the bundle passes every check."""
    parts = _parts(folder)
    failed = [
        f"{part.name}: {check.name}: {check.message}"
        for part in parts
        for check in verify_bundle(folder / part.folder)
        if not check.passed
    ]
    if failed:
        raise BundleError("; ".join(failed))
    return f"{', '.join(part.name for part in parts)} passed all checks"


def _names(folder: Path, files: list[Path]) -> str:
    return shown(", ".join(file.relative_to(folder).as_posix() for file in files))


def _formats(metadata: dict[str, Any], side: str) -> dict[str, Any]:
    """Read the metadata's declarations of the network's ``inputs`` or ``outputs``, by their names."""
    found = metadata.get("network_data_format", {})
    described = found.get(side, {}) if isinstance(found, dict) else {}
    if not isinstance(described, dict) or not all(isinstance(keys, dict) for keys in described.values()):
        raise BundleError(f"network_data_format.{side} must be an object of objects")
    return described


def _weights(folder: Path) -> str:
    """The weights fit the network, and the network does what the metadata declares."""
    bundle = read_bundle(folder)
    network, spec = bundle.network(), bundle.spec
    shape = (1, spec.input_channels, *spec.patch_size)
    wanted = (1, spec.label_scheme.count, *spec.patch_size)
    metadata = read_metadata(folder)
    for side, expected in (("inputs", shape), ("outputs", wanted)):
        described: dict[str, Any] = next(iter(_formats(metadata, side).values()), {})
        declared = (1, described.get("num_channels"), *described.get("spatial_shape", ()))
        if declared != expected:
            raise BundleError(f"network_data_format.{side} declares {shown(declared)}, the model has {expected}")
    with torch.inference_mode():
        output = network(torch.zeros(shape))
    if tuple(output.shape) != wanted:
        raise BundleError(f"the network maps {shape} to {tuple(output.shape)}, network_data_format declares {wanted}")
    if not torch.isfinite(output).all():
        raise BundleError(f"the network maps zeros of shape {shape} to values that are not finite")
    count = sum(parameter.numel() for parameter in network.parameters())
    return f"{count / 1e6:.1f} million parameters, {shape} to {wanted}"


def _exports(folder: Path) -> str:
    """The exported networks return the logits of the bundle's network."""
    bundle = read_bundle(folder)
    compared = require_exports_fit(folder, bundle.sha256)
    if not (folder / SCRIPT).is_file():
        return compared or "none"
    return f"{SCRIPT} differs by {_script_difference(folder, bundle):.1g}{compared and '; ' + compared}"


def _script_difference(folder: Path, bundle: Bundle) -> float:
    script = load_torchscript(open_bundle(folder)(SCRIPT))
    window = torch.randn(1, bundle.spec.input_channels, *bundle.spec.patch_size)
    with torch.inference_mode():
        expected, found = bundle.network()(window), script(window)
    if found.shape[1] < expected.shape[1]:  # a single output is the foreground's logit
        expected = expected[:, 1:]
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if not difference <= 1e-3:
        raise BundleError(f"{SCRIPT} gives other logits than the network, by {difference:.2g}: export it again")
    return difference


def _privacy(folder: Path) -> str:
    """No text of the bundle holds an absolute path, an account name or a DICOM UID."""
    faults, count = [], 0
    for path in sorted(bundle_files(folder)):
        if path.suffix.lower() not in _TEXT_SUFFIXES:
            continue
        count += 1
        text = path.read_text(encoding="utf-8", errors="replace")
        faults += [f"{path.relative_to(folder)}: {found!r}" for found in _traces(text)]
    if faults:
        raise BundleError(f"traces of a machine or a patient: {'; '.join(faults)}")
    return f"{count} text files without paths, accounts or UIDs"


def _traces(text: str) -> list[str]:
    found = [match.group() for pattern in (_PATH, _UID) for match in pattern.finditer(text)]
    account = _account()
    if account and re.search(rf"\b{re.escape(account)}\b", text):
        found.append(account)
    return found


def _account() -> str | None:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return None
    return None if name in _SHARED_ACCOUNTS or len(name) < 4 else name


def bundle_files(folder: Path) -> Iterator[Path]:
    """The files that belong to a bundle; what training keeps beside them (checkpoints, logs) does not."""
    for name in ("configs", "models", "docs", PARTS):
        yield from (path for path in (folder / name).rglob("*") if path.is_file() and not path.name.startswith("."))
    yield from (folder / name for name in ("LICENSE", LARGE_FILES) if (folder / name).is_file())
