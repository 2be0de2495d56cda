"""What `--deterministic` asks of torch, and that the package's own operations can do it.

There need not be a GPU: torch's settings hold for the CPU's operations as well, several of which refuse as a GPU's do.
"""

import os
from pathlib import Path

import pytest
import torch

from unetpipe.config.train import TrainConfig
from unetpipe.dataset.label_scheme import LabelClass, LabelScheme
from unetpipe.errors import UnetpipeError
from unetpipe.imaging.resample_label import resample_label
from unetpipe.inference.agreement import Agreement
from unetpipe.inference.confidence import Confidence
from unetpipe.networks.determinism import deterministic, sums_by_class

GPU = torch.device("cuda")


def _settings() -> tuple[bool, bool, str | None]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


def test_a_gpu_is_told_and_everything_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the block torch, cuDNN and cuBLAS are deterministic; after it, and after an error, all is as before."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = _settings()
    with deterministic(True, GPU):
        assert _settings() == (True, False, ":4096:8")
    assert _settings() == before
    with pytest.raises(KeyError), deterministic(True, GPU):
        raise KeyError
    assert _settings() == before


@pytest.mark.parametrize(("wanted", "device"), [(True, torch.device("cpu")), (False, GPU)])
def test_nothing_changes_on_a_cpu_or_unasked(wanted: bool, device: torch.device) -> None:
    """A CPU needs no setting, and nobody gets one who did not ask."""
    before = _settings()
    with deterministic(wanted, device):
        assert _settings() == before


def test_an_operation_without_a_deterministic_version_is_named() -> None:
    """Torch's error becomes one line that says which operation and what to do; other errors stay what they are."""
    target = torch.zeros(3)
    with (
        pytest.raises(UnetpipeError, match=r"^--deterministic: put_ has no deterministic version on cuda: [^\n]+$"),
        deterministic(True, GPU),
    ):
        target.put_(torch.tensor([0]), torch.ones(1))
    with pytest.raises(RuntimeError, match="out of memory"), deterministic(True, GPU):
        raise RuntimeError("CUDA out of memory")


def test_sums_by_class_are_the_histogram() -> None:
    """Summed class by class or by the histogram, it is the same; an absent class has 0."""
    classes, values = torch.randint(0, 4, (1000,)), torch.rand(1000)
    expected = [values[classes == one].sum() for one in range(5)]
    torch.testing.assert_close(sums_by_class(classes, values, 5), torch.stack(expected))
    with deterministic(True, GPU):
        torch.testing.assert_close(sums_by_class(classes, values, 5), torch.stack(expected))


def test_own_operations_have_a_deterministic_version() -> None:
    """Resampling of labels, agreement and confidence give the same where torch refuses all other operations."""
    label = torch.randint(0, 4, (1, 9, 8, 7))
    logits = torch.randn(3, 6, 5, 4)
    scheme = LabelScheme(labels=tuple(LabelClass(name=name, value=n) for n, name in enumerate("abc")), regions=())

    def results() -> tuple[torch.Tensor, list[float | None], dict[str, float | None]]:
        agreement, confidence = Agreement(), Confidence(scheme)
        agreement.add([label % 3, label // 2], 3)
        confidence.add(logits)
        return resample_label(label, (13, 5, 9), ("linear",) * 3), agreement.dice(), confidence.expected_dice()

    usual = results()
    with deterministic(True, GPU):
        strict = results()
    assert torch.equal(usual[0], strict[0])
    assert usual[1] == strict[1]
    assert usual[2] == pytest.approx(strict[2])


def test_a_length_in_minutes_is_refused() -> None:
    """How many steps fit into a time is never the same, so that nothing after them is."""
    TrainConfig(work=Path("work"), deterministic=True, epochs=3)
    with pytest.raises(ValueError, match="--deterministic needs --epochs"):
        TrainConfig(work=Path("work"), deterministic=True, max_minutes=5)
