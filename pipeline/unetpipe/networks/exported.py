"""A network in formats that run without its Python code: ONNX and PyTorch's exported programs."""

import contextlib
import io
import itertools
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unetpipe.errors import UnetpipeError

OPSET = 20
INPUT, OUTPUT = "image", "logits"


def write_onnx(network: nn.Module, example: Tensor, path: Path) -> None:
    """Write ONNX of operator set 20, its batch dynamic.

    Args:
        network: In evaluation mode, on the CPU.
        example: Input of two windows, (2, C, *patch).
        path: Of the file.

    Raises:
        UnetpipeError: If onnx or onnxscript is not installed.
    """
    _require("onnx", "onnxscript")
    with _quiet():
        program = torch.onnx.export(
            network, (example,), dynamo=True, external_data=False, opset_version=OPSET, verbose=False,
            input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
        assert program is not None
        graphs = [program.model.graph, *(function.graph for function in program.model.functions.values())]
        for node in itertools.chain.from_iterable(graph.all_nodes() for graph in graphs):
            node.metadata_props.clear()  # where each operator stands in source files, with their paths
        program.save(str(path))


def run_onnx(path: Path, window: Tensor) -> Tensor:
    """The logits of an ONNX file, by onnxruntime on the CPU.

    Raises:
        UnetpipeError: If onnxruntime is not installed.
    """
    _require("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run([OUTPUT], {INPUT: window.numpy()})[0])


def write_program(network: nn.Module, example: Tensor, path: Path) -> None:
    """Write an exported program of `torch.export`, its batch dynamic; arguments as of `write_onnx`.

    The example is stored in it, so it should be no image of anybody.
    """
    with _quiet():
        program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of source files
        torch.export.save(program, path)


def run_program(path: Path, window: Tensor) -> Tensor:
    """The logits of a program that this process has written."""
    logits: Tensor = torch.export.load(path).module()(window)
    return logits


def _require(*modules: str) -> None:
    for name in modules:
        try:
            __import__(name)
        except ImportError as error:
            raise UnetpipeError(f"{name} is not installed: pip install 'unetpipe[onnx]'") from error


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Without what PyTorch's exporter says of libraries that are not there and of its own parts."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
