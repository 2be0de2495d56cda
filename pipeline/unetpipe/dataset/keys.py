"""Hashes of what a stored case depends on, and of nothing else: of everything, and of what it shows."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.planning.plan import Plan
from unetpipe.dataset.store import STORE_SCHEMA
from unetpipe.documents import is_default
from unetpipe.imaging.preprocessing import step_code


def case_key(statistics: CaseStatistics, manifest: Manifest, plan: Plan, configuration: str) -> str:
    """Hash the files' contents, the preprocessing, the label values, the stored format and the readers of extensions.

    A case whose stored key is the same need not be prepared again. The patch is part of the key because it decides the
    chunks of the stored array.
    """
    spec = plan.preprocessing(configuration)
    # work folders that are older than these fields keep their keys
    later = {name for name in ("steps", "orientation", "resampling") if is_default(spec, name)}
    preprocessing = spec.model_dump(mode="json", exclude=later)
    parts: dict[str, Any] = {
        "schema": STORE_SCHEMA,
        "preprocessing": preprocessing,
        "patch_size": plan.configurations[configuration].patch_size,
        **_source(statistics, manifest),
    }
    if manifest.ignore_value is not None:
        parts["annotated"] = True  # positions of annotated voxels are stored besides
    if code := step_code(spec.steps):
        parts["code"] = code
    return _hash(parts)


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
