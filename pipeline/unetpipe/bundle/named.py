"""Models by what a person calls them: a path, the name of a bundle that ships or was downloaded, or a registered model.

A file or folder of that name always comes first, so that a command means the same whatever is shipped or downloaded
later.
"""

import logging
import tempfile
from dataclasses import replace
from pathlib import Path

from unetpipe.bundle.catalogue import VARIABLE, find_named, list_bundles, read_index
from unetpipe.bundle.models import AnyBundle, averaged_models, read_model
from unetpipe.bundle.read import find_bundles
from unetpipe.errors import BundleError
from unetpipe.tracking.registry import REGISTERED, fetch_model

log = logging.getLogger(__name__)


def read_models(called: Path | str) -> tuple[AnyBundle, ...]:
    """Read the bundles that a person calls by a path, a name or a URI.

    A bundle that holds others for averaging is followed by these.

    Args:
        called: A bundle folder or zip, a run's folder with ``fold_*``; the name of a bundle, such as
            ``hippocampus_mri_segmentation``; ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``.

    Raises:
        BundleError: If there is none, or it cannot be used.
        TrackingError: If a registered model cannot be fetched.
    """
    return tuple(one for bundle in _called(called) for one in averaged_models(bundle))


def _called(called: Path | str) -> tuple[AnyBundle, ...]:
    path, name = Path(called), str(called)
    if path.exists():
        if is_bare_name(name) and find_named(name):
            log.info("model %s: what is in this folder, and not the bundle that has the same name", name)
        return tuple(map(read_model, find_bundles(path)))
    if name.startswith(REGISTERED):
        with tempfile.TemporaryDirectory(prefix="unetpipe-") as scratch:
            fetched = fetch_model(name, Path(scratch))
            found = map(read_model, find_bundles(fetched.folder))
            return tuple(replace(bundle, registered=fetched.uri) for bundle in found)
    return (_named(name),) if is_bare_name(name) else tuple(map(read_model, find_bundles(path)))


def is_bare_name(called: str) -> bool:
    """Whether a model is called by a name alone, and not by a path or a URI."""
    return Path(called).name == called


def _named(name: str) -> AnyBundle:
    place, indexed = find_named(name), read_index().get(name)
    if place is None:
        raise BundleError(f"{name}: {_unknown(name)}")
    bundle = read_model(place)
    log.info("model %s: version %s in %s", name, bundle.version, place.parent)
    if indexed and indexed.version == bundle.version and indexed.sha256 != bundle.sha256:
        raise BundleError(
            f"{place}: its weights are not those of version {indexed.version} that unetpipe ships "
            f"(sha256 {bundle.sha256[:16]}..., expected {indexed.sha256[:16]}...)"
        )
    return bundle


def _unknown(name: str) -> str:
    rows = list_bundles()
    missing = next((row for row in rows if row.name == name), None)
    if missing:
        return f"not on this machine: get it from {missing.where}, and put it into the folder that {VARIABLE} names"
    there = ", ".join(row.name for row in rows) or "none"
    return f"no such file or folder, and no bundle of that name; bundles that there are: {there}"
