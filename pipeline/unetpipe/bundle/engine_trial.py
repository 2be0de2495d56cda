"""Which engine computes windows sooner on this CPU, found by trying."""

import logging
import time
from collections.abc import Callable

import torch
from torch import Tensor

from unetpipe.bundle.model_groups import Group
from unetpipe.inference.ensemble import Ensemble

log = logging.getLogger(__name__)

_WORTH_A_TRIAL = 60.0  # seconds of torch's work
_FASTER = 0.9


def openvino_if_faster(
    torchs: Ensemble, openvinos: Callable[[], tuple[Group, ...]], windows: Tensor, batches: float
) -> tuple[Group, ...] | None:
    """Let windows decide between engines where torch would take a minute or more.

    Args:
        torchs: Networks of the first group, which torch computes.
        openvinos: Makes all groups for OpenVINO, which takes some seconds.
        windows: A batch of windows.
        batches: Number of such batches to come.

    Returns:
        The groups for OpenVINO where they take at most nine tenths of torch's time, else None.
    """
    seconds = _seconds_of(torchs, windows)
    if seconds * batches < _WORTH_A_TRIAL:
        return None
    try:
        trial = openvinos()
        others = _seconds_of(trial[0].ensemble, windows)
    except Exception as error:
        log.warning("torch computes, since OpenVINO cannot: %s", error)
        return None
    faster = others <= _FASTER * seconds
    name = "openvino" if faster else "torch"
    log.info("%s computes: windows took torch %.3f s, OpenVINO %.3f s", name, seconds, others)
    return trial if faster else None


def _seconds_of(ensemble: Ensemble, windows: Tensor) -> float:
    """Seconds that windows take once what only the first call needs is made ready."""
    with torch.inference_mode():
        ensemble(windows)
        start = time.perf_counter()
        ensemble(windows)
        return time.perf_counter() - start
