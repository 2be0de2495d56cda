"""The device that computes, the precision of its products, and its utilisation."""

import resource
import sys
from contextlib import AbstractContextManager

import psutil
import torch
from torch import Tensor

from unetpipe.config.base import Precision
from unetpipe.errors import DeviceError, UnetpipeError, is_out_of_memory


def resolve_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` into a device that exists here.

    Raises:
        UnetpipeError: If it does not.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UnetpipeError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}") from error
    found = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if (device.index or 0) >= found.get(device.type, 0):
        raise UnetpipeError(
            f"device {name} is not on this machine ({found.get(device.type, 0)} {device.type} devices found)"
        )
    return device


def require_working(device: torch.device) -> None:
    """Check, after an error, that the device still computes: after some, a GPU refuses every later call of the process.

    Raises:
        DeviceError: If it does not.
    """
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            message = f"the device {device} has failed and computes nothing more in this process: run the command again"
            raise DeviceError(message) from error


def compute_dtype(device: torch.device, precision: Precision) -> torch.dtype:
    """Return the type of matrix products: what was asked for, or for ``auto`` the fastest that trains well.

    bfloat16 where the hardware multiplies it (CUDA since Ampere; CPUs with avx512_bf16 or AMX), else float16 on CUDA
    and float32 elsewhere.
    """
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type == "cuda":
        with torch.cuda.device(device):  # the question is about the current one
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():  # elsewhere oneDNN emulates it, slowly
        return torch.bfloat16
    return torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Autocast to `dtype`, or do nothing for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def exact(values: Tensor) -> Tensor:
    """Values as float64, on the CPU where the device has no such numbers, as Apple's GPUs have none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def peak_memory_gb(device: torch.device) -> float:
    """Return the most memory that was in use so far: the GPU's tensors, or on other devices the whole process."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else peak_process_memory_gb()


def peak_process_memory_gb() -> float:
    """Return the largest resident memory of the process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes there, KiB here


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_gb` of a GPU start anew; that of a process cannot."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def machine_use(device: torch.device) -> dict[str, float]:
    """Return how busy the machine was since the last call, under MLflow's names for it."""
    memory = psutil.virtual_memory()
    use = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
    }
    if device.type == "cuda":
        free, everything = torch.cuda.mem_get_info(device)
        use["system/gpu_0_memory_usage_megabytes"] = (everything - free) / 1e6
        use["system/gpu_0_memory_usage_percentage"] = 100 * (1 - free / everything)
    return use
