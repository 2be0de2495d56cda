"""Which models' logits may be averaged, what they do together, and which of them see the same windows."""

from collections import Counter
from collections.abc import Sequence

from unetpipe.bundle.foreign.read import ForeignBundle
from unetpipe.bundle.models import AnyBundle
from unetpipe.bundle.read import Bundle
from unetpipe.bundle.spec import ModelSpec, ModelTask
from unetpipe.documents import Record
from unetpipe.errors import BundleError, listed

TASK = ("spatial_dims", "channels", "labels", "regions")
"""Keys of a spec that models of one task agree on."""


def of_one_task(bundles: Sequence[AnyBundle]) -> tuple[Bundle, ...]:
    """The bundles, which have to be for the same task to be averaged; none where the only one is foreign.

    Raises:
        BundleError: If they cannot be averaged.
    """
    foreign = next((bundle for bundle in bundles if isinstance(bundle, ForeignBundle)), None)
    if foreign is not None and len(bundles) > 1:
        raise BundleError(f"{foreign.name} was not made by unetpipe: it cannot be averaged with other models")
    own = tuple(bundle for bundle in bundles if isinstance(bundle, Bundle))
    for bundle in own[1:]:
        require_same_task(own[0], bundle)
    return own


def grouped(bundles: Sequence[Bundle]) -> list[list[Bundle]]:
    """Bundles that share preprocessing and patch beside each other, in the order of each group's first."""
    groups: list[list[Bundle]] = []
    for bundle in bundles:
        group = next((group for group in groups if _sees_the_same(group[0].spec, bundle.spec)), None)
        if group is None:
            groups.append([bundle])
        else:
            group.append(bundle)
    return groups


def _sees_the_same(one: ModelSpec, other: ModelSpec) -> bool:
    """Whether the networks of two models see the same windows of a scan."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("preprocessing", "patch_size", "blending", "first_stage")
    )


def require_same_task(first: Bundle, other: Bundle) -> None:
    """See that the logits of two bundles may be averaged on a scan's grid.

    Raises:
        BundleError: If their channels, labels, preprocessing steps or orders of axes differ.
    """
    require_same(first, other, TASK)
    for name, what in (("steps", "preprocessing steps"), ("orientation", "orders of axes")):
        if getattr(first.spec.preprocessing, name) != getattr(other.spec.preprocessing, name):
            raise BundleError(f"{first.name} and {other.name} cannot be averaged: their {what} differ")


def require_first_stage(model: Bundle, stage: Bundle) -> None:
    """See that the labels of a bundle may be further channels of another one's images.

    Raises:
        BundleError: If their channels, labels, steps or orders of axes differ, or the first stage holds a model itself.
    """
    given, wanted = stage.spec.preprocessing, model.spec.preprocessing
    differing = [name for name in TASK if getattr(model.spec, name) != getattr(stage.spec, name)]
    differing += [name for name in ("steps", "orientation") if getattr(given, name) != getattr(wanted, name)]
    if differing:
        raise BundleError(f"{stage.name}: no first stage of {model.name}: their {differing[0]} differ")
    if stage.spec.parts:
        raise BundleError(f"{stage.name}: a first stage holds no other models, got {stage.spec.parts[0].name}")


def require_same(first: Bundle, other: Bundle, names: Sequence[str]) -> None:
    """See that two bundles have the same values under some keys of their specs.

    Raises:
        BundleError: If they do not; names the key.
    """
    for name in names:
        one, two = getattr(first.spec, name), getattr(other.spec, name)
        if one != two:
            found = "" if isinstance(one, Record) else f": {_shown(one)} and {_shown(two)}"  # folds may have one name
            raise BundleError(f"{first.name} and {other.name} cannot be averaged: their {name} differ{found}")


def _shown(value: object) -> str:
    """A value of a spec in a line, of classes and regions the names."""
    if not isinstance(value, tuple):
        return str(value)
    return f"({listed([getattr(item, 'name', item) for item in value])})"


def common_mirror_axes(specs: Sequence[ModelSpec]) -> tuple[int, ...]:
    """Axes along which every model was mirrored in training."""
    return tuple(sorted(set.intersection(*(set(spec.mirror_axes) for spec in specs))))


def agreed_postprocessing(specs: Sequence[ModelTask]) -> tuple[str, ...]:
    """Names of the classes of which more than half of the models keep the largest component alone."""
    votes = Counter(name for spec in specs for name in spec.postprocessing)
    return tuple(label.name for label in specs[0].labels if 2 * votes[label.name] > len(specs))
