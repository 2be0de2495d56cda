"""Whether a folder is a bundle that others can use: whole, runnable without unetpipe, free of anybody's traces."""

import getpass
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.spec import SPEC_KEY, ModelSpec
from unetpipe.documents import Record
from unetpipe.errors import BundleError, UnetpipeError

NEEDED_FILES = (
    "configs/metadata.json",
    "configs/inference.json",
    "configs/logging.conf",
    "models/model.pt",
    "docs/README.md",
    "LICENSE",
)
# what MONAI's metadata schema requires (https://docs.monai.io/en/stable/mb_specification.html)
_METADATA_KEYS = (
    "version",
    "changelog",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
)
_FORMAT_KEYS = (
    "type",
    "format",
    "num_channels",
    "spatial_shape",
    "dtype",
    "value_range",
    "is_patch_data",
    "channel_def",
)
_TARGETS = ("monai.", "torch.", "ignite.")
_TEXT_SUFFIXES = {".json", ".yaml", ".yml", ".md", ".txt", ".conf", ".csv", ""}

_PATH = re.compile(r"(?<![\w.])/(?:home|Users|root|mnt|media|scratch|tmp|srv|Volumes)/[\w.-]+|\b[A-Za-z]:\\\w")
_UID = re.compile(r"\b[0-2](?:\.\d+){5,}\b")  # DICOM: dotted numbers, longer than any version
# names that say nothing of a person, and that a bundle holds as words
_SHARED_ACCOUNTS = {"root", "user", "admin", "ubuntu", "jenkins", "runner", "monai", "bundle", "model", "train", "data"}


class Check(Record):
    """One thing that was looked at.

    Attributes:
        name: What.
        passed: Whether it is as it should be.
        message: What was found; where it failed, what was expected.
    """

    name: str
    passed: bool
    message: str


def verify_bundle(folder: Path) -> tuple[Check, ...]:
    """Run every check that makes sense; those that need a missing file fail with it.

    Raises:
        BundleError: If there is no such folder.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a bundle's folder" + ("; unpack it first" if folder.is_file() else ""))
    checks: dict[str, Callable[[Path], str]] = {
        "files": _files,
        "metadata": _metadata,
        "targets": _targets,
        "weights": _weights,
        "privacy": _privacy,
    }
    return tuple(_checked(name, check, folder) for name, check in checks.items())


def _checked(name: str, check: Callable[[Path], str], folder: Path) -> Check:
    try:
        return Check(name=name, passed=True, message=check(folder))
    except UnetpipeError as error:
        return Check(name=name, passed=False, message=str(error))


def _files(folder: Path) -> str:
    missing = [name for name in NEEDED_FILES if not (folder / name).is_file()]
    if missing:
        raise BundleError(f"missing: {', '.join(missing)}")
    return f"all {len(NEEDED_FILES)} are there"


def _metadata(folder: Path) -> str:
    metadata = _read_json(folder / "configs" / "metadata.json")
    faults = [f"{key} is missing" for key in _METADATA_KEYS if key not in metadata]
    formats = metadata.get("network_data_format", {})
    for side in ("inputs", "outputs"):
        if not formats.get(side):
            faults.append(f"network_data_format.{side} is missing")
        for name, described in formats.get(side, {}).items():
            where = f"network_data_format.{side}.{name}"
            faults += [f"{where}.{key} is missing" for key in _FORMAT_KEYS if key not in described]
    if metadata.get("version") not in metadata.get("changelog", {}):
        faults.append("changelog does not mention the version")
    if SPEC_KEY in metadata:
        try:
            ModelSpec.model_validate(metadata[SPEC_KEY])
        except ValueError as error:
            faults.append(f"{SPEC_KEY}: {' '.join(str(error).split())}")
    if faults:
        raise BundleError("; ".join(faults))
    return f"version {metadata['version']}, for monai {metadata['monai_version']}"


def _targets(folder: Path) -> str:
    """Every ``_target_`` is MONAI's, PyTorch's or Ignite's, and no expression names unetpipe."""
    foreign, count = [], 0
    for path in sorted((folder / "configs").glob("*.json")):
        if path.name == "metadata.json":
            continue
        for key, value in _strings(_read_json(path)):
            is_target = key == "_target_"
            count += is_target
            if (is_target and not value.startswith(_TARGETS)) or (value.startswith("$") and "unetpipe" in value):
                foreign.append(f"{path.name}: {value}")
    if foreign:
        raise BundleError(f"runs only where more than MONAI is installed: {'; '.join(foreign)}")
    return f"{count} targets, all of monai, torch or ignite"


def _weights(folder: Path) -> str:
    """The weights fit the network, and the network does what the metadata declares."""
    network = read_bundle(folder).network()
    formats = _read_json(folder / "configs" / "metadata.json").get("network_data_format", {})
    (given,), (expected,) = (list(formats.get(side, {}).values())[:1] or [{}] for side in ("inputs", "outputs"))
    try:
        shape = (1, int(given["num_channels"]), *map(int, given["spatial_shape"]))
        wanted = (1, int(expected["num_channels"]), *map(int, expected["spatial_shape"]))
    except (KeyError, TypeError, ValueError):
        raise BundleError("network_data_format does not declare num_channels and spatial_shape in numbers") from None
    with torch.inference_mode():
        output = network(torch.zeros(shape))
    if tuple(output.shape) != wanted:
        raise BundleError(f"the network maps {shape} to {tuple(output.shape)}, network_data_format declares {wanted}")
    if not torch.isfinite(output).all():
        raise BundleError(f"the network maps zeros of shape {shape} to values that are not finite")
    count = sum(parameter.numel() for parameter in network.parameters())
    return f"{count / 1e6:.1f} million parameters, {shape} to {wanted}"


def _privacy(folder: Path) -> str:
    """No absolute path, account name or DICOM UID in any text that would be handed on."""
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
    for name in ("configs", "models", "docs"):
        yield from (path for path in (folder / name).rglob("*") if path.is_file() and not path.name.startswith("."))
    if (folder / "LICENSE").is_file():
        yield folder / "LICENSE"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path.parent.name}/{path.name} is missing") from None
    except ValueError as error:
        raise BundleError(f"{path.parent.name}/{path.name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path.parent.name}/{path.name} must hold an object")
    return value


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a JSON value, with the key it stands under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
