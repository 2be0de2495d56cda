"""The OpenVINO engine, held against torch."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet
from torch import nn

from unetpipe.errors import UnetpipeError
from unetpipe.inference.engines import openvino
from unetpipe.inference.engines.openvino import OpenvinoNetwork

installed = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


def dynunet() -> nn.Module:
    torch.manual_seed(0)
    return DynUNet(3, 2, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 16], norm_name="instance").eval()


def classic() -> nn.Module:
    torch.manual_seed(0)
    return BasicUNet(3, 2, 3, features=(4, 4, 8, 8, 16, 4), norm="batch").eval()


@installed
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("make", [dynunet, classic])
def test_logits_are_torchs(make: Callable[[], nn.Module]) -> None:
    """In float32, for one window and for several, the logits are torch's to rounding; no result overwrites another."""
    network = make()
    compiled = OpenvinoNetwork(network, 2, (16, 32, 16), torch.float32)
    windows = torch.randn(3, 2, 16, 16, 32).transpose(3, 4)  # as a crop: not contiguous
    with torch.inference_mode():
        first, all_ = compiled(windows[:1]), compiled(windows)
        again = compiled(windows[1:2])
        expected = network(windows)
    torch.testing.assert_close(all_, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(torch.cat([first, again]), expected[:2], rtol=1e-3, atol=1e-3)


@installed
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_few_numbers_of_windows_are_compiled() -> None:
    """A batch and a window alone are, and what is left of a batch is computed one by one."""
    network = dynunet()
    compiled = OpenvinoNetwork(network, 2, (8, 8, 8), torch.float32, batch=4)
    windows = torch.randn(4, 2, 8, 8, 8)
    with torch.inference_mode():
        for count in (4, 3, 2, 1):
            torch.testing.assert_close(compiled(windows[:count]), network(windows[:count]), rtol=1e-3, atol=1e-3)
    assert sorted(compiled._requests) == [1, 4]


@installed
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_nothing_is_told_to_anybody() -> None:
    """The telemetry that comes with OpenVINO is never imported."""
    OpenvinoNetwork(dynunet(), 2, (8, 8, 8), torch.float32)
    assert sys.modules["openvino_telemetry"] is None
    assert "openvino.tools.ovc.telemetry_stub" in sys.modules


_SIGNALLED = """
import faulthandler, signal, torch
from unetpipe.inference.engines.openvino import OpenvinoNetwork
faulthandler.enable()  # has a signal stack, which OpenVINO replaces
networks = [OpenvinoNetwork(torch.nn.Conv3d(1, 2, 3, padding=1), 1, (8, 8, 8), torch.float32) for _ in range(2)]
for network in networks:
    network(torch.zeros(1, 1, 8, 8, 8))
del network
while networks:
    networks.pop(0)
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""


@installed
def test_signals_are_handled_after_several_networks() -> None:
    """A signal after networks came and went reaches Python's handler, and does not end the process."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _SIGNALLED], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n")


def test_without_openvino_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(openvino, "_start", openvino._start.__wrapped__)
    with pytest.raises(UnetpipeError, match=r"unetpipe\[openvino\]"):
        OpenvinoNetwork(dynunet(), 2, (8, 8, 8), torch.float32)
