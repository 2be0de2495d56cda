"""What a foreign bundle takes and gives: channels and classes, from its metadata and its network's definition."""

import inspect
from collections.abc import Mapping
from typing import Any

from unetpipe.bundle.archive import shown
from unetpipe.components import Definition, arguments_of, find, target_of
from unetpipe.dataset.label_scheme import LabelClass, Region
from unetpipe.errors import BundleError

Values = dict[str, Any]


class DataFormat:
    """``network_data_format`` of a bundle's metadata, whose values are compared with the network's definition.

    Args:
        name: Name of the bundle, for messages.
        metadata: Content of `configs/metadata.json`.
        definition: Definition of the network, with its full class name.
    """

    def __init__(self, name: str, metadata: Values, definition: Definition) -> None:
        self._name, self._definition = name, definition
        data_format = metadata.get("network_data_format")
        sides = data_format if isinstance(data_format, dict) else {}
        self._inputs = _first(sides.get("inputs"))
        self._outputs = _first(sides.get("outputs"))

    def input_names(self) -> tuple[str, ...]:
        """Name of each channel of the image."""
        count = self._count("in_channels", self._inputs)
        single = str(self._inputs.get("modality") or "image") if count == 1 else ""
        return tuple(_name(self._inputs, index) or single or f"channel {index}" for index in range(count))

    def output_names(self) -> tuple[str, ...]:
        """Name of each channel of the network's output."""
        count = self._count("out_channels", self._outputs)
        return tuple(_name(self._outputs, index) or f"class {index}" for index in range(count))

    def _count(self, argument: str, described: Values) -> int:
        """Number of channels, by the network's definition or its class's default."""
        declared = described.get("num_channels")
        count = arguments_of(self._definition).get(argument)
        if count is None:
            parameter = inspect.signature(find("network", target_of(self._definition))).parameters.get(argument)
            count = declared if parameter is None or parameter.default is parameter.empty else parameter.default
        if type(count) is not int or not 1 <= count <= 2**12:
            raise BundleError(
                f"{self._name}: network_def: expected {argument} from 1 to 4096, got {shown(repr(count))}"
            )
        if isinstance(declared, int) and declared != count:
            raise BundleError(
                f"{self._name}: network_def has {argument} {count}, network_data_format declares {declared}"
            )
        return count


def class_labels(names: tuple[str, ...]) -> tuple[LabelClass, ...]:
    """Classes of which the largest channel decides: each is written as its index."""
    return tuple(LabelClass(name=_distinct(names, index), value=index) for index in range(len(names)))


def region_labels(
    names: tuple[str, ...], rule: tuple[tuple[int, int], ...]
) -> tuple[tuple[LabelClass, ...], tuple[Region, ...]]:
    """Labels that a rule writes, and the regions that it decides by, in the order in which later ones win.

    A label is what is left of its region where earlier decisions did not take it, and is called so: the label that is
    written for a whole tumour is not the whole tumour.

    Args:
        names: Name of each channel.
        rule: Channel and label of each decision, the first one that holds counts.
    """
    labels = [LabelClass(name="background", value=0)]
    regions = []
    for position, (channel, value) in reversed(list(enumerate(rule))):
        taken = [_distinct(names, earlier) for earlier, _ in rule[:position]]
        name = _distinct(names, channel) + (f" without {' and '.join(taken)}" if taken else "")
        labels.append(LabelClass(name=name, value=value))
        regions.append(Region(name=name, values=(value,), written=value))
    return tuple(labels), tuple(regions)


def _distinct(names: tuple[str, ...], index: int) -> str:
    return names[index] if names.count(names[index]) == 1 else f"{names[index]} ({index})"


def _first(described: Any) -> Values:
    """The first of the described inputs or outputs."""
    one = next(iter(described.values()), None) if isinstance(described, dict) else None
    return one if isinstance(one, dict) else {}


def _name(described: Values, index: int) -> str:
    names = described.get("channel_def")
    return str(names.get(str(index), "")).strip() if isinstance(names, Mapping) else ""
