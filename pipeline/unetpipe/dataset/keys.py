"""What a stored case depends on, as one hash: the whole of it, and nothing else."""

import hashlib
import json

from unetpipe.dataset.facts import CaseFacts
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.plan import Plan
from unetpipe.dataset.store import STORE_SCHEMA


def case_key(facts: CaseFacts, manifest: Manifest, plan: Plan, configuration: str) -> str:
    """Hash of file contents, preprocessing, label values and this software's way to do it.

    A run whose key for a case is the stored one leaves the case alone. The patch counts because chunks follow it.
    """
    parts = {
        "schema": STORE_SCHEMA,
        "content": facts.content,
        "affine_adopted": facts.affine_adopted,
        "preprocessing": plan.preprocessing(configuration).model_dump(mode="json"),
        "patch_size": plan.configurations[configuration].patch_size,
        "labels": manifest.label_values,
        "ignore": manifest.ignore_value,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
