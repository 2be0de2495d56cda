"""Hashes of what a stored case depends on, and of nothing else: of everything, and of what it shows."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.planning.plan import Plan
from unetpipe.dataset.store import STORE_SCHEMA
from unetpipe.imaging.preprocessing import step_code


def case_keys(
    statistics: Iterable[CaseStatistics], manifest: Manifest, plan: Plan, configuration: str
) -> dict[str, str]:
    """Hash the files' contents, the preprocessing, the label values, the stored format and the readers of extensions.

    A case whose stored key is the same need not be prepared again.

    Returns:
        Key of each case by its id.
    """
    spec = plan.preprocessing(configuration)
    parts = {
        "schema": STORE_SCHEMA,
        "preprocessing": spec.model_dump(mode="json"),
        "thin": plan.configurations[configuration].thin,
        "code": step_code(spec.steps),
    }
    return {one.id: _hash({**parts, **_source(one, manifest)}) for one in statistics}


def source_key(statistics: CaseStatistics, manifest: Manifest) -> str:
    """Hash the files' contents and the label values alone, whatever preprocessing makes of them."""
    return _hash(_source(statistics, manifest))


def _source(statistics: CaseStatistics, manifest: Manifest) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "content": statistics.content,
        "affine_adopted": statistics.affine_adopted,
        "labels": manifest.label_values,
        "ignore": manifest.ignore_value,
    }
    if manifest.merged:
        parts["merged"] = [one.model_dump() for one in manifest.merged]
    return parts


def _hash(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
