"""A metric of MONAI for masks: the only module of the evaluation that knows torch, imported if one is named."""

from importlib.metadata import version
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.components import Definition, build, find, takes
from unetpipe.errors import ComponentError
from unetpipe.imaging.geometry import Spacing

VERSION = version("monai")


class MonaiMetric:
    """Calls a class of `monai.metrics` with one case of one class, as tensors (1, 1, I, J[, K]) of 0 and 1.

    An instance of MONAI's keeps what it has measured, so each call makes one of its own. Metrics of distances get the
    spacing.

    Args:
        definition: The class and its arguments; ``include_background`` is true unless it says otherwise, since the
            one channel is the class.
    """

    def __init__(self, definition: Definition) -> None:
        accepted = takes(find("metric", definition["_target_"]))
        self._definition = definition
        self._given = {"include_background": True} if "include_background" in accepted else {}
        self._make()

    def __call__(self, reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing_mm: Spacing) -> float:
        """Measure; see `named_metrics.Metric`."""
        metric = self._make()
        ours, theirs = (torch.tensor(mask, dtype=torch.float32)[None, None] for mask in (reference, prediction))
        spacing = {"spacing": spacing_mm} if _takes_spacing(metric) else {}
        found = metric(theirs, ours, **spacing)
        if not isinstance(found, torch.Tensor) or found.numel() != 1:
            found = metric.aggregate()  # of this one case, such as a rate of its confusion matrix
        if isinstance(found, list | tuple) and len(found) == 1:
            (found,) = found
        if not isinstance(found, torch.Tensor) or found.numel() != 1:
            raise ComponentError(f"metric {self._definition['_target_']} gives more than one number for two masks")
        return float(found)

    def _make(self) -> Any:
        return build("metric", self._definition, **self._given)


def _takes_spacing(metric: Any) -> bool:
    """Whether the metric takes keywords besides the two tensors, which is how MONAI's distance metrics take spacing."""
    parameters = signature(metric._compute_tensor).parameters.values()
    return any(one.name == "spacing" or one.kind is Parameter.VAR_KEYWORD for one in parameters)
