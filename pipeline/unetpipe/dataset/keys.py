"""One hash of everything that a stored case depends on, and of nothing else."""

import hashlib
import json
from typing import Any

from unetpipe.components import source_digest, target_of
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.planning.plan import Plan
from unetpipe.dataset.store import STORE_SCHEMA
from unetpipe.documents import is_default


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
