"""The post-processing of a foreign bundle, from logits to labels, as one `Readout`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unetpipe.bundle.archive import shown
from unetpipe.bundle.foreign.definitions import ForeignComponent, transforms_of
from unetpipe.bundle.foreign.preprocessing import cuts_off, interpolates
from unetpipe.bundle.foreign.rules import label_rule
from unetpipe.bundle.foreign.spec import Readout
from unetpipe.components import Definition, find, target_of
from unetpipe.errors import BundleError
from unetpipe.imaging.steps import moves_voxels

_PREDICTION = "pred"
_TYPES = {"EnsureTyped", "ToTensord", "ToDeviced", "CastToTyped"}


@dataclass(frozen=True)
class Reading:
    """What a post-processing says.

    Attributes:
        readout: From logits to labels; its channels are those of `rule`, or all.
        rule: Channel and label of each decision, the first one that holds counts; empty for classes.
        largest_last: Indices of the classes of which only the largest component is kept on the scan's grid.
    """

    readout: Readout
    rule: tuple[tuple[int, int], ...]
    largest_last: tuple[int, ...]


class PostprocessingReader:
    """Follows the transforms of a post-processing, from logits on the network's grid to labels on the scan's.

    Args:
        where: Key of the config, for messages.
        channels: Number of the network's output channels.
        preprocessing: The resolved preprocessing, which ``Invertd`` must name.
        chain: The transforms of the preprocessing, as they are run.
    """

    def __init__(self, where: str, channels: int, preprocessing: Any, chain: Sequence[Definition]) -> None:
        self._where, self._channels = where, channels
        self._preprocessing, self._chain = preprocessing, chain
        self._moves_voxels = any(moves_voxels(find("preprocessing", target_of(step))) for step in chain)
        self._activation: Literal["none", "softmax", "sigmoid"] = "none"
        self._decided: Literal["classes", "regions"] | None = None
        self._threshold: float | None = None
        self._undone: Literal["before", "after", "linearly"] | None = None
        self._cuts_undecided = False
        self._rule: tuple[tuple[int, int], ...] = ()
        self._largest_first: tuple[int, ...] = ()
        self._largest_last: tuple[int, ...] = ()

    def read(self, config: Any) -> Reading:
        """Interpret a resolved post-processing.

        Raises:
            BundleError: Naming the first transform or argument that is not understood.
        """
        handled = {
            "Activationsd": self._activate,
            "AsDiscreted": self._decide,
            "Invertd": self._undo,
            "KeepLargestConnectedComponentd": self._keep_largest,
            "Lambdad": self._apply_rule,
        }
        for component in transforms_of(self._where, config):
            keys = component.take("keys")
            if _PREDICTION not in (keys if isinstance(keys, list) else [keys]):
                raise component.refused(f"{component.name}: expected it to work on {_PREDICTION!r}, got {keys!r}")
            component.ignore("allow_missing_keys", "meta_keys", "meta_key_postfix", "orig_meta_keys")
            if component.name == "SaveImaged":
                break
            if component.name in handled:
                handled[component.name](component)
                component.require_all_taken()
            elif component.name not in _TYPES:
                known = ", ".join([*handled, "SaveImaged"])
                raise component.refused(f"{component.name} is not among the transforms that are run: {known}")
        return self._result()

    def _activate(self, component: ForeignComponent) -> None:
        softmax, sigmoid = component.flag("softmax"), component.flag("sigmoid")
        if softmax == sigmoid or self._activation != "none" or self._decided or self._undone:
            raise component.refused("Activationsd: expected either softmax or sigmoid, once, before anything else")
        self._activation = "softmax" if softmax else "sigmoid"

    def _decide(self, component: ForeignComponent) -> None:
        argmax, threshold = component.flag("argmax"), component.take("threshold")
        if self._decided or argmax == (threshold is not None):
            raise component.refused("AsDiscreted: expected either argmax or a threshold, once")
        if component.take("to_onehot") is not None or component.take("rounding") is not None:
            raise component.refused("AsDiscreted: to_onehot and rounding are not understood")
        if argmax:
            self._decided = "classes"
        elif isinstance(threshold, int | float) and not isinstance(threshold, bool):
            self._decided, self._threshold = "regions", float(threshold)
        else:
            raise component.refused(f"AsDiscreted: the threshold {threshold!r} is not understood")

    def _undo(self, component: ForeignComponent) -> None:
        component.ignore("orig_keys", "to_tensor", "device")
        nearest = component.flag("nearest_interp", default=True)
        transform = component.unread("transform")
        if transform != self._preprocessing:
            raise component.refused("Invertd: expected @preprocessing as its transform")
        if self._undone:
            raise component.refused("Invertd: the preprocessing has been undone before")
        self._cuts_undecided = self._decided is None and cuts_off(self._chain)
        if nearest or not interpolates(self._chain):
            self._undone = "after"  # by nearest neighbours it is the same before and after the decision
        elif self._decided == "regions":
            raise component.refused("Invertd: interpolates regions linearly after they were decided")
        else:
            self._undone = "linearly" if self._decided else "before"

    def _keep_largest(self, component: ForeignComponent) -> None:
        if self._decided != "classes" or component.take("is_onehot"):
            raise component.refused("KeepLargestConnectedComponentd: expected it after AsDiscreted with argmax")
        if not component.flag("independent", default=True) or component.take("num_components", 1) != 1:
            raise component.refused("KeepLargestConnectedComponentd: independent and num_components are not understood")
        if component.take("connectivity") is not None:
            raise component.refused("KeepLargestConnectedComponentd: connectivity is not understood")
        applied = component.take("applied_labels")
        classes = list(range(1, self._channels)) if applied is None else applied
        classes = classes if isinstance(classes, list) else [classes]
        if not all(type(one) is int and 0 < one < self._channels for one in classes):
            raise component.refused(f"KeepLargestConnectedComponentd: applied_labels={applied!r} is not understood")
        if self._undone:
            self._largest_last += tuple(classes)
        else:
            self._largest_first += tuple(classes)

    def _apply_rule(self, component: ForeignComponent) -> None:
        code = str(component.unread("func"))
        rule = label_rule(code)
        if self._decided != "regions" or self._rule or not rule:
            raise component.refused(f"Lambdad: its function is not evaluated: {code}")
        if any(channel >= self._channels for channel, _ in rule):
            raise component.refused(f"Lambdad: names a channel beyond the {self._channels} of the network")
        self._rule = rule

    def _result(self) -> Reading:
        if self._decided is None:
            raise self._refused("neither argmax nor a threshold of AsDiscreted decides the classes")
        if self._undone is None and self._moves_voxels:
            raise self._refused("no Invertd takes the labels back to the scan's grid")
        if self._threshold is not None and self._threshold <= 0 and self._cuts_undecided:
            raise self._refused(
                f"the 0 of voxels that were cut off reaches the threshold {self._threshold:g}: all would be found"
            )
        if self._decided == "regions" and not self._rule:
            if self._channels > 1:
                raise self._refused(
                    "several channels that may overlap are its result, and no rule makes labels of them"
                )
            self._rule = ((0, 1),)
        readout = Readout(
            activation=self._activation,
            channels=tuple(channel for channel, _ in reversed(self._rule)) or tuple(range(self._channels)),
            threshold=self._threshold,
            undone=self._undone or "after",
            largest_first=self._largest_first,
        )
        return Reading(readout, self._rule, self._largest_last)

    def _refused(self, reason: str) -> BundleError:
        return BundleError(f"{self._where}: {shown(reason)}")
