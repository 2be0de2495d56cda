"""Networks compiled by OpenVINO for the CPU: the same products as torch's, in fewer passes over memory."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unetpipe.errors import UnetpipeError
from unetpipe.imaging.geometry import Shape

_PRECISION = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


class OpenvinoNetwork(nn.Module):
    """Maps (B, C, *patch) to logits (B, L, *patch) in float32, on all of torch's threads.

    Args:
        network: Network on the CPU, in float32 and evaluation mode.
        channels: Number of image channels, C.
        patch: The only window shape that will come.
        dtype: Data type of matrix products.
        batch: Windows that usually come together. Any other number is computed one by one, since each number has to be
            compiled.

    Raises:
        UnetpipeError: If OpenVINO is not installed.
    """

    def __init__(self, network: nn.Module, channels: int, patch: Shape, dtype: torch.dtype, *, batch: int = 1) -> None:
        super().__init__()
        self._openvino, self._core = _start()
        self._batch = batch
        self._settings = {
            "INFERENCE_PRECISION_HINT": _PRECISION[dtype],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        with torch.no_grad():
            window = torch.zeros(1, channels, *patch)
            traced = torch.jit.trace(network, window, check_trace=False)  # type: ignore[no-untyped-call]  # torch's stub
        self._model = self._openvino.convert_model(traced)
        self._requests: dict[int, Any] = {}  # by the number of windows: fixed shapes run faster

    def forward(self, windows: Tensor) -> Tensor:
        if len(windows) in (1, self._batch):
            return self._together(windows)
        return torch.cat([self._together(window[None]) for window in windows])

    def _together(self, windows: Tensor) -> Tensor:
        if len(windows) not in self._requests:
            self._model.reshape(list(windows.shape))
            compiled = self._core.compile_model(self._model, "CPU", self._settings)
            self._requests[len(windows)] = compiled.create_infer_request()
        request = self._requests[len(windows)]
        windows = windows.float().contiguous()
        logits = torch.empty(tuple(request.model_outputs[0].shape))
        # shared, not copied: both names must outlive `infer`
        request.set_input_tensor(self._openvino.Tensor(windows.numpy(), shared_memory=True))
        request.set_output_tensor(self._openvino.Tensor(logits.numpy(), shared_memory=True))
        request.infer()
        return logits


def write_openvino(network: nn.Module, example: Tensor, path: Path) -> None:
    """Write OpenVINO's intermediate representation, in float32: `path` (.xml) and its weights beside it (.bin).

    Args:
        network: On the CPU, in float32 and evaluation mode.
        example: Input, (B, C, *patch); the file takes any B.
        path: Of the .xml file.

    Raises:
        UnetpipeError: If OpenVINO is not installed.
    """
    openvino, _ = _start()
    with torch.no_grad():
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]  # torch's stub
    model = openvino.convert_model(traced)
    model.reshape([-1, *example.shape[1:]])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def run_openvino(path: Path, windows: Tensor) -> Tensor:
    """The logits of a file that `write_openvino` wrote, computed in float32."""
    _, core = _start()
    compiled = core.compile_model(core.read_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return torch.from_numpy(next(iter(compiled([windows.numpy()]).values())))


@cache
def _start() -> tuple[Any, Any]:
    """OpenVINO, without the module by which it would tell its makers of every import and conversion, and its core.

    There is one core, which is never let go of: each puts a signal stack of its own in place, and takes it away in the
    order of their ends, so that after two of them a signal may find none and end the process.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes importing it fail
    try:
        import openvino
    except ImportError as error:
        raise UnetpipeError("OpenVINO is not installed: pip install 'unetpipe[openvino]'") from error
    if telemetry := sys.modules["openvino_telemetry"]:  # somebody else has imported OpenVINO before
        from openvino.tools.ovc.telemetry_stub import Telemetry

        telemetry.Telemetry = Telemetry  # type: ignore[attr-defined]  # of an untyped module
    return openvino, openvino.Core()
