"""What is asked of a device is asked of the one that computes."""

import contextlib
from collections.abc import Iterator

import pytest
import torch

from unetpipe.networks.device import compute_dtype


@pytest.mark.parametrize("with_bfloat16", [0, 1])
def test_precision_is_that_of_the_gpu_that_computes(with_bfloat16: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a GPU without bfloat16 another one uses it, and the other way round."""
    current = 0

    @contextlib.contextmanager
    def selected(device: torch.device) -> Iterator[None]:
        nonlocal current
        before, current = current, current if device.index is None else device.index
        yield
        current = before

    monkeypatch.setattr(torch.cuda, "device", selected)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: current == with_bfloat16)
    for name, number in (("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)):
        expected = torch.bfloat16 if number == with_bfloat16 else torch.float16
        assert compute_dtype(torch.device(name), "auto") == expected
