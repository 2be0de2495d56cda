"""The version of a bundle and what changed with it: `version` and `changelog` of its metadata.

A version stands for one finished model. Writing or packing a bundle over an earlier one counts up if the model has
changed, and keeps the version if it has not. All epochs of one training have the same version.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from unetpipe.bundle.member import Member
from unetpipe.bundle.spec import ModelSpec
from unetpipe.documents import Record
from unetpipe.errors import BundleError

_FIRST = "0.1.0"
_ABOUT_TRAINING = {"tracking_run", "finished", "recipe", "evidence"}
_WORDS = {
    "folds": "members of the ensemble",
    "averaged_with": "models that are averaged",
    "first_stage": "first stage of the cascade",
    "quality": "predicted Dice",
    "labels": "classes",
    "regions": "classes",
    "patch_size": "patch",
    "mirror_axes": "mirroring",
    "postprocessing": "post-processing",
    "weights": "choice of weights",
    "training_domain": "training data",
    "registered_network": "network",
}


class Release(Record):
    """A version, and the changes since the first one.

    Attributes:
        version: ``major.minor.patch``; a changed model raises `minor`.
        changelog: Changes of each version.
    """

    version: str = _FIRST
    changelog: Mapping[str, str] = {_FIRST: "first version"}

    def after(self, changes: str) -> "Release":
        """Return the next version.

        Args:
            changes: Changes of the new version.
        """
        major, minor = self._order[:2]
        version = f"{major}.{minor + 1}.0"
        return Release(version=version, changelog={**self.changelog, version: changes})

    def named(self, version: str | None, changes: str | None) -> "Release":
        """Return this release under a version that a person gives, with what that person says has changed.

        Args:
            version: The version; None keeps it.
            changes: Line of the changelog; None keeps the one that is there.

        Raises:
            BundleError: If the version is below this one.
        """
        named = self.model_copy(update={"version": version or self.version})
        if self.follows(named):
            raise BundleError(f"--version {named.version} is below {self.version}, which the bundle has")
        text = changes or self.changelog.get(named.version) or self.changelog.get(self.version, "")
        return Release(version=named.version, changelog={**self.changelog, named.version: text})

    def follows(self, other: "Release") -> bool:
        """Whether this version is higher than another."""
        return self._order > other._order

    @property
    def _order(self) -> tuple[int, int, int]:
        numbers = [int(number) for number in re.findall(r"\d+", self.version)[:3]]
        major, minor, patch = (*numbers, 0, 0, 0)[:3]
        return major, minor, patch


@dataclass(frozen=True)
class Model:
    """The content of a version: what a new version is compared by.

    Attributes:
        spec: Everything about the model but its networks and weights.
        members: Its networks.
    """

    spec: ModelSpec
    members: tuple[Member, ...]

    def changes_from(self, other: "Model") -> str:
        """Say what differs from another model, as a line of a changelog; empty if nothing does."""
        ours, theirs = (one.spec.model_dump(mode="json", exclude=_ABOUT_TRAINING) for one in (self, other))
        changed = [_WORDS.get(name, name) for name in ours if ours[name] != theirs[name]]
        if _definitions(self.members) != _definitions(other.members):
            changed.append("network")
        if not _same_weights(self.members, other.members):
            changed.append("weights")
        return f"changed: {', '.join(dict.fromkeys(changed))}" if changed else ""


def _definitions(members: Sequence[Member]) -> list[str]:
    return [json.dumps(member.definition, sort_keys=True) for member in members]


def _same_weights(ours: Sequence[Member], theirs: Sequence[Member]) -> bool:
    if len(ours) != len(theirs):
        return False
    pairs = [(one.weights, other.weights) for one, other in zip(ours, theirs, strict=True)]
    return all(
        one.keys() == other.keys() and all(torch.equal(one[name].detach().cpu(), other[name]) for name in one)
        for one, other in pairs
    )
