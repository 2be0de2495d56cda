"""The sliding window of a foreign bundle."""

from typing import Any

from unetpipe.bundle.foreign.definitions import ForeignComponent
from unetpipe.bundle.foreign.spec import WindowPlan
from unetpipe.inference.sliding_window import Blending

_WITHOUT_EFFECT = ["sw_batch_size", "sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh"]
_WITHOUT_EFFECT += ["buffer_steps", "buffer_dim"]
_PADDINGS = ("constant", "reflect", "replicate", "circular")


def window_plan(where: str, config: Any, dims: int) -> WindowPlan:
    """Interpret a resolved inferer.

    Args:
        where: Key of the config, for messages.
        config: ``SlidingWindowInferer``, or ``SliceInferer`` of a 2-D network.
        dims: Number of axes that the network convolves over.

    Raises:
        BundleError: If it is another inferer, or an argument is not understood.
    """
    component = ForeignComponent(where, config if isinstance(config, dict) else {})
    if component.name not in ("SlidingWindowInferer", "SliceInferer"):
        raise component.refused(f"{component.name} is not understood, expected SlidingWindowInferer or SliceInferer")
    component.ignore(*_WITHOUT_EFFECT)
    sizes = component.take("roi_size")
    patch = [sizes] * dims if isinstance(sizes, int) else sizes
    if not isinstance(patch, list) or len(patch) != dims or not all(type(n) is int and n > 0 for n in patch):
        raise component.refused(f"{component.name}: expected a roi_size of {dims} positive sizes, got {sizes!r}")
    overlap = component.take("overlap", 0.25)
    if isinstance(overlap, list) and len(set(map(repr, overlap))) == 1:
        overlap = overlap[0]
    if not isinstance(overlap, int | float) or not 0 <= overlap < 1:
        raise component.refused(f"{component.name}: expected an overlap from 0 to 1, got {overlap!r}")
    axis = None
    if component.name == "SliceInferer":
        axis = component.take("spatial_dim", 0)
        if dims != 2 or axis not in (0, 1, 2) or isinstance(axis, bool):
            raise component.refused(f"SliceInferer: expected a 2-D network and a spatial_dim from 0 to 2, got {axis!r}")
        patch = [*patch[:axis], 1, *patch[axis:]]
    blending = _blending(component)
    component.require_all_taken()
    return WindowPlan(patch_size=tuple(patch), overlap=float(overlap), blending=blending, slice_axis=axis)


def _blending(component: ForeignComponent) -> Blending:
    mode, sigma, padding, fill = (
        component.take("mode", "constant"),
        component.take("sigma_scale", 0.125),
        component.take("padding_mode", "constant"),
        component.take("cval", 0.0),
    )
    if mode not in ("constant", "gaussian") or not isinstance(sigma, int | float) or not 0.01 <= sigma <= 10:
        raise component.refused(f"{component.name}: mode={mode!r} with sigma_scale={sigma!r} is not understood")
    if padding not in _PADDINGS or not isinstance(fill, int | float) or not abs(fill) < 1e6:
        raise component.refused(f"{component.name}: padding_mode={padding!r} with cval={fill!r} is not understood")
    return Blending(sigma_scale=float(sigma) if mode == "gaussian" else None, padding=padding, fill=float(fill))
