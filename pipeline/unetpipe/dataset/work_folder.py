"""The documents of a work folder that a person can read: what was found, and what was decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unetpipe.dataset.checks.statistics import CaseStatistics, KnownStatistics
from unetpipe.dataset.folds import Folds
from unetpipe.dataset.manifest import Manifest, write_manifest
from unetpipe.dataset.planning.fingerprint import Fingerprint
from unetpipe.dataset.planning.plan import Plan, plan_text, read_plan
from unetpipe.documents import Record, write_if_changed
from unetpipe.files import write_text


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The documents that preprocessing follows.

    Attributes:
        manifest: Cases, channels and classes of the dataset.
        statistics: Statistics of the cases, by which unchanged files are recognised.
        fingerprint: Fingerprint that the plan was made from.
        plan: Plan of preprocessing and network.
        folds: Training and validation cases of each fold.
    """

    manifest: Manifest
    statistics: Sequence[CaseStatistics]
    fingerprint: Fingerprint
    plan: Plan
    folds: Folds


def write_decisions(work: Path, decisions: Decisions) -> None:
    """Write every document of a work folder, leaving alone those that already say the same."""
    work.mkdir(parents=True, exist_ok=True)
    documents: dict[str, Record] = {
        "checks.json": KnownStatistics(statistics=tuple(decisions.statistics)),
        "fingerprint.json": decisions.fingerprint,
        "folds.json": decisions.folds,
    }
    for name, document in documents.items():
        write_if_changed(work / name, document)
    write_manifest(work, decisions.manifest)
    path = work / "plan.yaml"
    if not path.exists() or read_plan(work) != decisions.plan:
        write_text(path, plan_text(decisions.plan))
