"""A bundle's network in other formats, each compared with torch before it is kept, and what goes with it.

Beside an export lies `models/preprocessing.json`: a network is of no use without what is done to its images.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from unetpipe.bundle.preprocessing_document import preprocessing_document
from unetpipe.bundle.read import Bundle
from unetpipe.bundle.torchscript import SCRIPT, write_torchscript
from unetpipe.components import first_line
from unetpipe.documents import Record, write_document
from unetpipe.errors import BundleError, UnetpipeError
from unetpipe.files import write_json, write_text
from unetpipe.inference.engines.openvino import run_openvino, write_openvino
from unetpipe.networks.exported import run_onnx, run_program, write_onnx, write_program

Format = Literal["torchscript", "onnx", "pt2", "openvino"]

PREPROCESSING = "models/preprocessing.json"
RECORD = "models/exports.json"
EXPORTS_HEADING = "\n## Exports\n"
"""Heading of the section of the model card that this module writes; it is the last one."""
_CARD = "docs/README.md"
_TOLERANCE = 1e-2  # of logits; above it a fault is likelier than another order of summation
_MOST_DIFFERING = 1e-3  # of the voxels


class Export(Record):
    """A file that was exported, and what it gives compared with torch.

    Attributes:
        format: Which.
        file: Path in the bundle.
        sha256: Of the file.
        weights_sha256: Of the weights that were exported.
        difference: Largest difference of a logit.
        differing_voxels: Voxels that get another class.
        voxels: Voxels that were compared.
        window: What they were compared on.
    """

    format: Format
    file: str
    sha256: str
    weights_sha256: str
    difference: float
    differing_voxels: int
    voxels: int
    window: str


class Exports(Record):
    """All exports of a bundle."""

    schema_version: Literal[1] = 1
    exports: tuple[Export, ...]


@dataclass(frozen=True)
class Sample:
    """What exports are compared on.

    Attributes:
        window: (1, C, *patch), preprocessed.
        name: What it is, for the model card.
    """

    window: Tensor
    name: str


@dataclass(frozen=True)
class _Way:
    file: str
    write: Callable[[nn.Module, Tensor, Path], None]
    run: Callable[[Path, Tensor], Tensor]
    beside: tuple[str, ...] = ()


def _run_script(path: Path, window: Tensor) -> Tensor:
    logits: Tensor = torch.jit.load(path)(window)  # type: ignore[no-untyped-call]  # torch's stub
    return logits


def _write_script(network: nn.Module, _example: Tensor, path: Path) -> None:
    write_torchscript(path.parents[1], network)


_WAYS: dict[Format, _Way] = {
    "torchscript": _Way(SCRIPT, _write_script, _run_script),
    "onnx": _Way("models/model.onnx", write_onnx, run_onnx),
    "pt2": _Way("models/model.pt2", write_program, run_program),
    "openvino": _Way("models/model.xml", write_openvino, run_openvino, beside=("models/model.bin",)),
}
EXPORTED_FILES = frozenset(file for way in _WAYS.values() for file in (way.file, *way.beside, PREPROCESSING, RECORD))


def export(folder: Path, bundle: Bundle, formats: tuple[Format, ...], sample: Sample) -> tuple[Export, ...]:
    """Write exports, and their record, their preprocessing and a section of the model card.

    Args:
        folder: The bundle's.
        bundle: What lies in it.
        formats: Which to write; those that were written before stay, if they are of the same weights.
        sample: What they are compared with torch on.

    Raises:
        BundleError: If a network cannot be exported or gives other logits than in torch; its file is removed.
        UnetpipeError: If a library that a format needs is not installed.
    """
    kept = {one.format: one for one in _earlier(folder) if one.weights_sha256 == bundle.sha256}
    made = {name: _exported(folder, bundle, name, sample) for name in formats}
    exports = tuple((kept | made).values())
    write_json(folder / PREPROCESSING, preprocessing_document(bundle.spec, bundle.network_def))
    write_document(folder / RECORD, Exports(exports=exports))
    card = (folder / _CARD).read_text(encoding="utf-8").split(EXPORTS_HEADING)[0]
    write_text(folder / _CARD, card + EXPORTS_HEADING + _table(exports))
    return tuple(made.values())


def remove_outdated(folder: Path, formats: tuple[Format, ...], weights_sha256: str) -> None:
    """Remove exports of other weights than the bundle's, of formats that are about to be exported anew."""
    for one in _earlier(folder):
        if one.format in formats and one.weights_sha256 != weights_sha256:
            _remove(folder, _WAYS[one.format])


def require_exports_fit(folder: Path, weights_sha256: str) -> str:
    """See that each exported file is the one that was compared, and of the weights that the bundle has.

    Returns:
        What was found, in one line.

    Raises:
        BundleError: If a file was not compared, has changed, or is of other weights; names it.
    """
    known = {one.file: one for one in _earlier(folder)}
    found = [way.file for way in _WAYS.values() if way.file != SCRIPT and (folder / way.file).is_file()]
    for file in found:
        if file not in known or _digest(folder, _WAYS[known[file].format]) != known[file].sha256:
            raise BundleError(f"{file} was not compared with the network: export it again")
        if known[file].weights_sha256 != weights_sha256:
            raise BundleError(f"{file} holds other weights than the bundle: export it again")
    return ", ".join(found)


def _earlier(folder: Path) -> tuple[Export, ...]:
    try:
        return Exports.model_validate_json((folder / RECORD).read_bytes()).exports
    except FileNotFoundError:
        return ()
    except ValueError as error:
        raise BundleError(f"{RECORD} is damaged: {first_line(error)}") from error


def _exported(folder: Path, bundle: Bundle, name: Format, sample: Sample) -> Export:
    if bundle.spec.registered_network is not None:
        raise BundleError(
            f"a network that an extension registers is held as {SCRIPT}, and cannot be exported to {name}"
        )
    way, network = _WAYS[name], bundle.network()
    for module in network.modules():
        module._forward_hooks.clear()  # the background's logit, which two classes with one output get elsewhere
    path = folder / way.file
    generator = torch.Generator().manual_seed(0)
    example = torch.randn((2, *sample.window.shape[1:]), generator=generator)  # some formats keep it: no image
    windows = torch.cat([sample.window, sample.window.flip(2), example])  # another batch than the example's
    try:
        way.write(network, example, path)
        with torch.inference_mode():
            expected, found = network(windows), way.run(path, windows)
    except UnetpipeError:
        _remove(folder, way)
        raise
    except Exception as error:  # whatever an exporter does not know
        _remove(folder, way)
        raise BundleError(f"the network cannot be exported to {name}: {first_line(error)}") from error
    difference = float((found - expected).abs().max())
    one_output = expected.shape[1] == 1 or bundle.spec.label_scheme.overlapping
    differs = (found > 0) != (expected > 0) if one_output else found.argmax(1) != expected.argmax(1)
    if not difference <= _TOLERANCE or float(differs[:1].float().mean()) > _MOST_DIFFERING:
        _remove(folder, way)
        raise BundleError(f"the network exported to {name} gives logits that are {difference:.2g} off")
    return Export(
        format=name,
        file=way.file,
        sha256=_digest(folder, way),
        weights_sha256=bundle.sha256,
        difference=float(f"{difference:.2g}"),
        differing_voxels=int(differs[:1].sum()),
        voxels=differs[:1].numel(),
        window=sample.name,
    )


def _remove(folder: Path, way: _Way) -> None:
    for file in (way.file, *way.beside):
        (folder / file).unlink(missing_ok=True)


def _digest(folder: Path, way: _Way) -> str:
    digest = hashlib.sha256()
    for file in (way.file, *way.beside):
        digest.update((folder / file).read_bytes())
    return digest.hexdigest()


def _table(exports: tuple[Export, ...]) -> str:
    rows = "\n".join(
        f"| `{one.file}` | {one.difference:.1g} | {one.differing_voxels} of {one.voxels} | {one.window} |"
        for one in exports
    )
    return f"""
Each gives the network's own outputs, and was compared with PyTorch in float32 before it was kept. What must be done to
an image before, and to the logits after, is in `{PREPROCESSING}`.

| file | largest difference of a logit | voxels of another class | compared on |
|---|---|---|---|
{rows}
"""
