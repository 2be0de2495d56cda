"""`models/model.ts`: a bundle's network as TorchScript, in the form `monai.data.load_net_with_metadata` reads."""

import io
import re
import zipfile
from pathlib import Path

import torch
from monai.config import get_config_values
from monai.data import save_net_with_metadata
from torch import nn

from unetpipe.bundle.archive import read_metadata
from unetpipe.errors import BundleError
from unetpipe.files import atomic_path
from unetpipe.networks.torchscript import to_torchscript

SCRIPT = "models/model.ts"
_MOST_CODE = 16 * 2**20  # bytes
# what reads or writes files, runs while the program is loaded, or calls code outside of torch's own operators
_UNSAFE = re.compile(
    r"\b(from_file|save|load|__setstate__|__getstate__|__torch__\.torch\.classes)\b|\bops\.(?!prim\b)\w+"
)


def load_torchscript(content: bytes) -> torch.jit.ScriptModule:
    """Load a program that somebody else may have written, if it does nothing but compute.

    TorchScript is no Python, but has operators that read and write files, and methods that run as it is loaded.

    Raises:
        BundleError: If it is damaged, or its code names such an operator or method.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = [entry for entry in archive.infolist() if "/code/" in f"/{entry.filename}"]
            if (size := sum(entry.file_size for entry in files)) > _MOST_CODE:
                raise BundleError(f"{SCRIPT}: {size:,} bytes of code, more than the {_MOST_CODE:,} that are read")
            code = [archive.read(entry).decode() for entry in files if entry.filename.endswith(".py")]
        found = next((match.group() for text in code if (match := _UNSAFE.search(text))), None)
        if found is not None:
            raise BundleError(f"{SCRIPT} is refused: its code names {found}, which may do more than compute")
        script: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(content), "cpu")  # type: ignore[no-untyped-call]  # torch's stub
    except BundleError:
        raise
    except Exception as error:  # torch's reader meets junk with whatever comes up
        raise BundleError(f"{SCRIPT} is damaged or no TorchScript") from error
    return script


def write_torchscript(folder: Path, network: nn.Module) -> Path:
    """Write it for a bundle whose metadata is there.

    Args:
        folder: Folder of the bundle.
        network: Network with its weights, as `build_network` returns it, in evaluation mode.

    Raises:
        BundleError: If the network cannot be exported, or answers differently when it is.
    """
    window = read_metadata(folder)["network_data_format"]["inputs"]["image"]
    shape = (1, window["num_channels"], *window["spatial_shape"])
    return _save(folder, to_torchscript(network, torch.randn(shape, generator=torch.Generator().manual_seed(0))))


def renew_metadata(folder: Path) -> None:
    """Write a bundle's program anew with the metadata that the bundle has now.

    Raises:
        BundleError: If it is damaged, or does more than compute.
    """
    _save(folder, load_torchscript((folder / SCRIPT).read_bytes()))


def _save(folder: Path, script: torch.jit.ScriptModule) -> Path:
    target = folder / SCRIPT
    # the versions, and not the time; an open file, as torch keeps the name of a path: the same bundle, the same bytes
    metadata = {**get_config_values(), **read_metadata(folder)}
    program = io.BytesIO()
    save_net_with_metadata(script, program, include_config_vals=False, meta_values=metadata)
    with atomic_path(target) as temporary:
        _write_without_sources(program, temporary)
    return target


def _write_without_sources(program: io.BytesIO, path: Path) -> None:
    """Write a program without torch's notes of the Python that it was made from: they have paths of this machine.

    They only serve the traces of errors.
    """
    with zipfile.ZipFile(program) as made, zipfile.ZipFile(path, "w") as kept:
        for entry in made.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(entry, made.read(entry))
