"""A bundle in MLflow's model registry: what it takes and gives, what it was made from, and how good it is."""

import hashlib
import importlib.metadata
import shutil
import tempfile
from importlib.resources import as_file
from importlib.resources import files as package_files
from pathlib import Path

import numpy as np

from unetpipe.bundle.predictor import Predictor
from unetpipe.bundle.read import Bundle, read_bundle
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.verify import bundle_files
from unetpipe.errors import TrackingError
from unetpipe.tracking.registry import DATA, Entry, RegisteredVersion, ServedModel, register_model
from unetpipe.tracking.store import has_store

_CODE = "mlflow_model.py"
_REQUIRED = ("unetpipe", "mlflow", "monai", "torch", "numpy", "nibabel", "scipy")
_EXAMPLE_SIZE = 16  # voxels along each axis


def register_bundle(folder: Path, work: Path, name: str, alias: str | None = None) -> RegisteredVersion:
    """Log a bundle folder to MLflow and register it as the next version of a name.

    Args:
        folder: Folder of the bundle.
        work: Work folder that it was trained in, whose store is used unless `MLFLOW_TRACKING_URI` names another.
        name: Name of the registered model.
        alias: Alias that is to point at the new version.

    Raises:
        BundleError: If the bundle cannot be read.
        TrackingError: If there is no store, it does not answer, or it takes no such name.
    """
    if not has_store(work):
        raise TrackingError(f"{folder} lies in no work folder with an MLflow store: MLFLOW_TRACKING_URI must name one")
    bundle = read_bundle(folder)
    entry = Entry(
        name=name,
        alias=alias,
        digest=_digest(folder),
        run_id=bundle.spec.tracking_run,
        tags={"bundle.version": bundle.version, "weights.sha256": bundle.sha256},
        parameters=_parameters(bundle),
        description=(folder / "docs" / "README.md").read_text(encoding="utf-8"),
    )
    with (
        tempfile.TemporaryDirectory(prefix="unetpipe-") as scratch,
        as_file(package_files("unetpipe.bundle") / _CODE) as code,
    ):
        data = Path(scratch) / DATA
        for file in bundle_files(folder):
            target = data / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        return register_model(_served(code, data, bundle.spec), entry, work)


def _served(code: Path, data: Path, spec: ModelSpec) -> ServedModel:
    predictor = Predictor(data)
    dims = spec.spatial_dims
    shape = (len(spec.channels), *(_EXAMPLE_SIZE,) * dims)
    ramp = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    affine = np.diag([*spec.preprocessing.spacing_mm, *(1.0,) * (4 - dims)])
    labels = predictor.predict(ramp, affine)
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in _REQUIRED}
    return ServedModel(
        code=code,
        data=data,
        example={"image": ramp, "affine": affine},
        sizes={"image": (len(spec.channels), *(-1,) * dims), "affine": (4, 4)},
        output=("labels", str(labels.dtype), dims),
        requirements=[f"{package}=={version}" for package, version in versions.items()],
    )


def _parameters(bundle: Bundle) -> dict[str, str]:
    spec = bundle.spec
    return {
        "channels": ", ".join(spec.channels),
        "classes": ", ".join(f"{label.value} {label.name}" for label in spec.labels),
        "spacing_mm": " ".join(f"{mm:g}" for mm in spec.preprocessing.spacing_mm),
        "patch_size": " ".join(map(str, spec.patch_size)),
    }


def _digest(folder: Path) -> str:
    """Digest of all files of a bundle, by their names."""
    digest = hashlib.sha256()
    for file in sorted(bundle_files(folder)):
        digest.update(file.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
