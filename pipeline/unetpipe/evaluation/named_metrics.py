"""Metrics that a person names beside the package's own, by a registered name or as a class of MONAI.

A metric compares two masks of one class and gives one number (`Metric`). It is tried on dummy masks before any file is
read, where it also shows whether a higher value is better: a right prediction is compared with wrong ones.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import getdoc
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unetpipe.components import (
    DESCRIPTION,
    Definition,
    arguments_of,
    build,
    find,
    first_line,
    register,
    takes,
    target_of,
)
from unetpipe.errors import ComponentError
from unetpipe.evaluation.cldice import cldice
from unetpipe.imaging.geometry import Spacing
from unetpipe.metrics.scores import HIGHER_IS_BETTER

Mask = NDArray[np.bool_]

_MONAI = "monai.metrics."

register("metric", "cldice")(cldice)


class Metric(Protocol):
    """The protocol of a metric: a function with these arguments, or an instance of a class that is called so.

    It is called from several threads at once, each with another case.
    """

    def __call__(self, reference: Mask, prediction: Mask, spacing_mm: Spacing) -> float:
        """Compare two masks of one class in one case.

        Args:
            reference: Boolean, shape (I, J, K) or (I, J), in the axis order of its file. Not to be written to. At
                least one of the two masks holds a voxel.
            prediction: Likewise, on the same grid; empty where there is no prediction.
            spacing_mm: Voxel size along each axis.

        Returns:
            The value; NaN, or an infinity, where it is not defined, which then takes no part in a mean.
        """


@dataclass(frozen=True, kw_only=True)
class NamedMetric:
    """A metric that has been tried.

    Attributes:
        name: Name of the metric's column and summary.
        meaning: Explanation that is written beside the values.
        higher_is_better: Direction of the metric, as measured on dummy masks.
        metric: Function that computes the metric.
    """

    name: str
    meaning: str
    higher_is_better: bool
    metric: Metric

    def measure(self, reference: Mask, prediction: Mask, spacing_mm: Spacing) -> float:
        """Measure one class of one case; NaN where neither mask holds a voxel, or the value is not defined.

        Raises:
            ComponentError: If the metric fails, or gives something else than a number.
        """
        if not reference.any() and not prediction.any():
            return math.nan
        return _value(self.name, self.metric, reference, prediction, spacing_mm)


def find_metrics(named: Sequence[str | Definition], ndim: int) -> list[NamedMetric]:
    """Build metrics and try each on dummy masks.

    Args:
        named: Registered words, or definitions.
        ndim: Axes of the masks they will see.

    Raises:
        ComponentError: If there is no such metric, it does not do what `Metric` says, or its name is taken.
    """
    metrics = []
    for name, one in zip(_names(named), named, strict=True):
        if name in HIGHER_IS_BETTER:
            raise ComponentError(f"metric {name!r} is the package's own: register yours by another word")
        target = target_of(one)
        metric = build_metric(one)
        higher = _higher_is_better(name, metric, ndim)
        metrics.append(NamedMetric(name=name, meaning=_meaning(one, target), higher_is_better=higher, metric=metric))
    return metrics


def build_metric(named: str | Definition) -> Metric:
    """Build one metric; a class of MONAI is wrapped so that it takes masks."""
    if str(target_of(named)).startswith(_MONAI):
        from unetpipe.evaluation.monai_metric import MonaiMetric  # torch, which no other metric needs

        return MonaiMetric(named if isinstance(named, dict) else {"_target_": named})
    factory = find("metric", target_of(named))
    if not isinstance(factory, type) and {"reference", "prediction", "spacing_mm"} <= takes(factory):
        return partial(factory, **(arguments_of(named) if isinstance(named, dict) else {}))
    metric: Metric = build("metric", named)
    return metric


def _value(name: str, metric: Metric, reference: Mask, prediction: Mask, spacing_mm: Spacing) -> float:
    try:
        value = float(metric(reference, prediction, spacing_mm))
    except ComponentError:
        raise
    except Exception as error:  # of foreign code
        raise ComponentError(f"metric {name} fails: {first_line(error)}") from error
    return value if math.isfinite(value) else math.nan


def _higher_is_better(name: str, metric: Metric, ndim: int) -> bool:
    """Whether a right prediction has a higher value than one that is too small or one that is too large.

    It may ignore one of the two errors, as precision and sensitivity do.
    """
    spacing_mm = (1.0, 1.5, 2.0)[:ndim]
    reference, small, large = (_bar(ndim, *margins) for margins in ((10, 4), (16, 6), (1, 1)))
    right, *wrong = (_value(name, metric, reference, mask, spacing_mm) for mask in (reference, small, large))
    if any(math.isnan(value) for value in (right, *wrong)):
        raise ComponentError(f"metric {name} gives no finite number for two masks that hold voxels")
    apart = {math.copysign(1.0, right - value) for value in wrong if value != right}
    if len(apart) == 1:
        return apart == {1.0}
    raise ComponentError(
        f"metric {name} does not say whether higher is better: it gives {right:.3g} for a right prediction, "
        f"{wrong[0]:.3g} for one that is too small and {wrong[1]:.3g} for one that is too large"
    )


def _bar(ndim: int, along: int, across: int) -> Mask:
    """A mask longer than wide, at these margins: the centreline of a square is about a point, which tells nothing."""
    mask = np.zeros((40, *(16,) * (ndim - 1)), np.bool_)
    mask[slice(along, -along), *(slice(across, -across),) * (ndim - 1)] = True
    mask.flags.writeable = False
    return mask


def _names(named: Iterable[str | Definition]) -> Iterator[str]:
    """A registered name as it is, MONAI's classes as ``monai_surface_dice``; numbered from the second of a name on."""
    seen: Counter[str] = Counter()
    for one in named:
        target = str(target_of(one))
        name = target
        if target.startswith(_MONAI):
            words = target.rpartition(".")[2].removesuffix("Metric").replace("IoU", "Iou")
            name = "monai_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", words).lower()
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}_{seen[name]}"


def _meaning(named: str | Definition, target: object) -> str:
    """The definition's own description or the first paragraph of the docstring, with the class and its arguments."""
    arguments = arguments_of(named) if isinstance(named, dict) else {}
    given = f"{target}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
    if isinstance(named, dict) and DESCRIPTION in named:
        return f"{named[DESCRIPTION]} {given}"
    if str(target).startswith(_MONAI):
        return f"{given} of MONAI."
    described = " ".join((getdoc(find("metric", target)) or "").partition("\n\n")[0].split())
    return f"{described} {given}".strip()
