"""What is understood of a bundle that others made: all that running it needs but its network and its weights."""

from typing import Literal

from unetpipe.bundle.spec import ModelTask
from unetpipe.components import Definition
from unetpipe.documents import Record
from unetpipe.imaging.geometry import Shape
from unetpipe.inference.sliding_window import Blending


class WindowPlan(Record):
    """The sliding window of a bundle.

    Attributes:
        patch_size: Shape of a window.
        overlap: Fraction of the patch that neighbouring windows share.
        blending: How windows are averaged and the volume padded.
        slice_axis: Axis whose planes a 2-D network sees one by one; None for a 3-D network.
    """

    patch_size: Shape
    overlap: float
    blending: Blending
    slice_axis: int | None = None


class Readout(Record):
    """From logits to labels on the scan's grid.

    Attributes:
        activation: Function that logits go through first.
        channels: Channels of the network in the order of the label scheme.
        threshold: Value that a region's channel has to reach; None where the largest channel decides.
        undone: When preprocessing is undone: ``before`` the classes are decided, so that channels are interpolated
            linearly on the scan's grid, or ``after``, so that labels go back by nearest neighbours, or ``linearly``
            after it: then class numbers are interpolated and rounded.
        largest_first: Indices of the classes of which only the largest component is kept before preprocessing is
            undone.
    """

    activation: Literal["none", "softmax", "sigmoid"] = "none"
    channels: tuple[int, ...]
    threshold: float | None = None
    undone: Literal["before", "after", "linearly"] = "after"
    largest_first: tuple[int, ...] = ()


class ForeignSpec(ModelTask):
    """Everything about a foreign model but its weights and its network.

    Attributes:
        transforms: Preprocessing, as definitions of MONAI's transforms with all references in place.
        windows: The sliding window.
        readout: From logits to labels.
    """

    transforms: tuple[Definition, ...]
    windows: WindowPlan
    readout: Readout
