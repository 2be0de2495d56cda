"""What a stored case depends on, as one hash: the whole of it, and nothing else."""

import hashlib
import json
from typing import Any

from unetpipe.components import source_digest, target_of
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.planning.plan import Plan
from unetpipe.dataset.store import STORE_SCHEMA


def case_key(statistics: CaseStatistics, manifest: Manifest, plan: Plan, configuration: str) -> str:
    """Hash of file contents, preprocessing, label values, this software's way to do it and an extension's.

    A run whose key for a case is the stored one leaves the case alone. The patch counts because chunks follow it.
    """
    spec = plan.preprocessing(configuration)
    # work folders that are older than steps keep their keys
    preprocessing = spec.model_dump(mode="json", exclude={"steps"} if spec.only_normalizes else None)
    parts: dict[str, Any] = {
        "schema": STORE_SCHEMA,
        "content": statistics.content,
        "affine_adopted": statistics.affine_adopted,
        "preprocessing": preprocessing,
        "patch_size": plan.configurations[configuration].patch_size,
        "labels": manifest.label_values,
        "ignore": manifest.ignore_value,
    }
    if manifest.merged:
        parts["merged"] = [one.model_dump() for one in manifest.merged]
    if code := [digest for step in spec.steps if (digest := source_digest("preprocessing", target_of(step)))]:
        parts["code"] = code
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
