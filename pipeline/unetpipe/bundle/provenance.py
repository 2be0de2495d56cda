"""What made labels, for `predictions.json`: those of other models or settings are not taken for a run's own."""

import hashlib
import json
from pathlib import Path

from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.read import Bundle
from unetpipe.bundle.usable import with_first_stage
from unetpipe.config.infer import InferConfig
from unetpipe.imaging.files import code_digest
from unetpipe.imaging.formats.registered import reader_suffixes
from unetpipe.imaging.preprocessing import step_code
from unetpipe.inference.predictions import ModelUsed


def models_used(predictor: Predictor) -> tuple[ModelUsed, ...]:
    """The models, in the order in which they were given."""
    return tuple(
        ModelUsed(
            name=bundle.name,
            version=bundle.version,
            sha256=bundle.sha256,
            tracking_run=bundle.spec.tracking_run if isinstance(bundle, Bundle) else None,
            registered=bundle.registered,
        )
        for bundle in predictor.bundles
    )


def settings_used(config: InferConfig, predictor: Predictor) -> dict[str, str | float | int | bool]:
    """The options and the code that labels depend on, without anything that may name a patient."""
    differs = {} if predictor.differs is None else {"differs_from_float32": round(predictor.differs, 6)}
    return {
        "precision": str(predictor.dtype).removeprefix("torch."),
        "engine": predictor.engine,
        **differs,
        "step": predictor.step,
        "tta": config.tta,
        "postprocess": config.postprocess,
        **_reading(config),
        **_coding(config),
        **_code(predictor),
    }


def _reading(config: InferConfig) -> dict[str, str]:
    """A hash of what decides which volume of a source is read, and where it lies; nothing where all is as usual.

    The choice of a series may hold UIDs and descriptions.
    """
    options = config.model_dump(mode="json", include={"series", "phase", "fix_geometry", "fix_affine"})
    usual = {name: InferConfig.model_fields[name].get_default(call_default_factory=True) for name in options}
    if all(getattr(config, name) == value for name, value in usual.items()):
        return {}
    return {"reading": hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]}


def _coding(config: InferConfig) -> dict[str, str | bool]:
    """What decides how DICOM objects hold the labels; nothing where none is written, or all is as usual."""
    if not set(config.format) - {"nifti"}:
        return {}
    chosen: dict[str, str | bool] = {"seg_type": config.seg_type, "uncoded": config.uncoded}
    return {name: value for name, value in chosen.items() if value != InferConfig.model_fields[name].default}


def _code(predictor: Predictor) -> dict[str, str]:
    """A hash of the extensions' code that reads and prepares scans; nothing where there is none."""
    own = [stage for model in predictor.bundles if isinstance(model, Bundle) for stage in with_first_stage(model)]
    steps = [step for model in own for step in model.spec.preprocessing.steps]
    found = [*step_code(steps), *filter(None, (code_digest(Path(f"x{suffix}")) for suffix in reader_suffixes()))]
    return {"code": hashlib.sha256("".join(found).encode()).hexdigest()[:16]} if found else {}
