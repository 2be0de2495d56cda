"""A bundle's network in other formats, each compared with torch before it is kept, and what goes with it.

Beside an export lies `models/preprocessing.json`: a network is of no use without what is done to its images.
"""

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from unetpipe.bundle.archive import METADATA
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
_SCRATCH = ".exports"  # in the bundle's folder, and no part of the bundle
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

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the format."""
        return (self.file, *self.beside)


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
EXPORTED_FILES = frozenset(file for way in _WAYS.values() for file in (*way.files, PREPROCESSING, RECORD))


def export(folder: Path, bundle: Bundle, formats: tuple[Format, ...], sample: Sample) -> tuple[Export, ...]:
    """Write exports, and their record, their preprocessing and a section of the model card.

    Each takes its place, and is recorded, as soon as it was compared: where a later one fails, it stays. Where a format
    fails, its earlier export stays.

    Args:
        folder: The bundle's.
        bundle: What lies in it.
        formats: Which to write; those that were written before stay, if they are of the same weights.
        sample: What they are compared with torch on.

    Raises:
        BundleError: If a network cannot be exported or gives other logits than in torch.
        UnetpipeError: If a library that a format needs is not installed.
    """
    exports = {one.format: one for one in _present(folder) if one.weights_sha256 == bundle.sha256}
    for name in formats:
        with _scratch(folder) as scratch:
            made = _exported(scratch, bundle, name, sample)
            _require_files(scratch, _WAYS[name])
            exports[name] = made
            for file in _WAYS[name].files:
                (scratch / file).replace(folder / file)
        write_json(folder / PREPROCESSING, preprocessing_document(bundle.spec, bundle.network_def))
        _write_record(folder, tuple(exports.values()), bundle.sha256)
    return tuple(exports[name] for name in formats)


def remove_outdated(
    folder: Path, formats: Collection[Format], weights_sha256: str, *, asked: Collection[Format] = ()
) -> None:
    """Remove what is in the way of an export: the record and the card then list what is left.

    Args:
        folder: The bundle's.
        formats: What is about to be exported anew: their exports of other weights go.
        weights_sha256: Of the bundle's weights.
        asked: Those of `formats` that a person asks for: their files also go where they are not what was compared.
    """
    earlier = {one.format: one for one in _earlier(folder)}
    for name in formats:
        one = earlier.get(name)
        is_other = one is not None and one.weights_sha256 != weights_sha256
        if is_other or (name in asked and not _is_compared(folder, _WAYS[name], one)):
            for file in _WAYS[name].files:
                (folder / file).unlink(missing_ok=True)
    present = _present(folder)
    if present != tuple(earlier.values()):
        _write_record(folder, present, weights_sha256)


def require_exports_fit(folder: Path, weights_sha256: str) -> str:
    """See that each exported file is the one that was compared, and of the weights that the bundle has.

    Returns:
        What was found, in one line.

    Raises:
        BundleError: If a file was not compared, has changed, or is of other weights; names it.
    """
    known = {one.file: one for one in _earlier(folder)}
    others = [way for way in _WAYS.values() if way.file != SCRIPT]
    ways = [way for way in others if any((folder / file).is_file() for file in way.files)]
    for way in ways:
        one = known.get(way.file)
        if one is None or not _is_compared(folder, way, one):
            raise BundleError(f"{way.file} was not compared with the network: export it again")
        if one.weights_sha256 != weights_sha256:
            raise BundleError(f"{way.file} holds other weights than the bundle: export it again")
    return ", ".join(way.file for way in ways)


def _earlier(folder: Path) -> tuple[Export, ...]:
    try:
        return Exports.model_validate_json((folder / RECORD).read_bytes()).exports
    except FileNotFoundError:
        return ()
    except ValueError as error:
        raise BundleError(f"{RECORD} is damaged: {first_line(error)}") from error


def _present(folder: Path) -> tuple[Export, ...]:
    """The recorded exports whose files are there."""
    return tuple(one for one in _earlier(folder) if _is_whole(folder, _WAYS[one.format]))


def _is_compared(folder: Path, way: _Way, one: Export | None) -> bool:
    """Whether the files of a format are those that a record is about."""
    return one is not None and _is_whole(folder, way) and _digest(folder, way) == one.sha256


def _is_whole(folder: Path, way: _Way) -> bool:
    return all((folder / file).is_file() for file in way.files)


def _write_record(folder: Path, exports: tuple[Export, ...], weights_sha256: str) -> None:
    """Write the record of exports, and those of the bundle's weights into the model card."""
    if exports:
        write_document(folder / RECORD, Exports(exports=exports))
    else:
        (folder / RECORD).unlink(missing_ok=True)
    if not (folder / _CARD).is_file():  # which a check says
        return
    card = (folder / _CARD).read_text(encoding="utf-8")
    described = tuple(one for one in exports if one.weights_sha256 == weights_sha256)
    content = card.split(EXPORTS_HEADING)[0] + (EXPORTS_HEADING + _table(described) if described else "")
    if content != card:
        write_text(folder / _CARD, content)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Give a folder in that of a bundle, with the bundle's metadata, in which exports can be tried."""
    scratch = folder / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)  # what a kill left
    try:
        (scratch / "models").mkdir(parents=True)
        (scratch / METADATA).parent.mkdir()
        shutil.copyfile(folder / METADATA, scratch / METADATA)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _require_files(folder: Path, way: _Way) -> None:
    """See that an exporter has written no more than the files of its format.

    Raises:
        BundleError: If it has, as torch does with an ONNX of more than 1.5 GB, whose weights lie beside it.
    """
    written = {path.relative_to(folder).as_posix() for path in (folder / "models").rglob("*") if path.is_file()}
    if written - set(way.files):
        raise BundleError(f"the network is too large for one file: {way.file}")


def _exported(folder: Path, bundle: Bundle, name: Format, sample: Sample) -> Export:
    """Write an export into a folder, and compare it.

    Raises:
        BundleError: If the network cannot be exported or gives other logits than in torch.
        UnetpipeError: If a library is not installed.
    """
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
        raise
    except Exception as error:  # whatever an exporter does not know
        raise BundleError(f"the network cannot be exported to {name}: {first_line(error)}") from error
    difference = float((found - expected).abs().max())
    one_output = expected.shape[1] == 1 or bundle.spec.label_scheme.overlapping
    differs = (found > 0) != (expected > 0) if one_output else found.argmax(1) != expected.argmax(1)
    if not difference <= _TOLERANCE or float(differs[:1].float().mean()) > _MOST_DIFFERING:
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


def _digest(folder: Path, way: _Way) -> str:
    digest = hashlib.sha256()
    for file in way.files:
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
