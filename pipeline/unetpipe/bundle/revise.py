"""Changes to what a bundle that is there says of itself: version, statements about it, codes of its classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetpipe.bundle.about import About
from unetpipe.bundle.archive import METADATA, read_metadata
from unetpipe.bundle.exports import EXPORTS_HEADING
from unetpipe.bundle.model_card import model_card
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.release import Model, Release
from unetpipe.bundle.spec import SPEC_KEY, ModelSpec
from unetpipe.bundle.torchscript import renew_metadata
from unetpipe.bundle.write import CARD, add_data_license, generated_configs
from unetpipe.errors import BundleError
from unetpipe.files import write_json, write_text
from unetpipe.imaging.dicom.derived.codes import SegmentCode


def write_release(folder: Path, release: Release) -> None:
    """Give a bundle folder another version and changelog, and the TorchScript of its own network too."""
    _change(folder, {"version": release.version, "changelog": dict(release.changelog)})
    if read_bundle(folder).spec.registered_network is not None:
        renew_metadata(folder)


def write_about(folder: Path, about: About) -> None:
    """Give a bundle folder other statements about the model, in its metadata and its card.

    Raises:
        BundleError: If the bundle cannot be read.
    """
    bundle = read_bundle(folder)
    _change(folder, about.entries())
    _, heading, exports = (folder / CARD).read_text(encoding="utf-8").partition(EXPORTS_HEADING)
    write_text(folder / CARD, model_card(bundle.spec, bundle.network_def, about) + heading + exports)


def read_about(folder: Path) -> About:
    """The statements about the model that a bundle folder holds.

    Raises:
        BundleError: If its metadata cannot be read.
    """
    return About.of(read_metadata(folder))


def write_segments(folder: Path, segments: Mapping[str, SegmentCode]) -> None:
    """Give a bundle folder other codes of its classes, and with them the next version, unless it has them already.

    Raises:
        BundleError: If the bundle cannot be read, or a name is none of its classes.
    """
    bundle = read_bundle(folder)
    spec = coded(bundle.spec, segments)
    changes = Model(spec, ()).changes_from(Model(bundle.spec, ()))
    if changes:
        _change(folder, {SPEC_KEY: spec.model_dump(mode="json")})
        write_release(folder, bundle.release.after(changes))


def coded(spec: ModelSpec, segments: Mapping[str, SegmentCode]) -> ModelSpec:
    """Give a model other codes of its classes.

    Raises:
        BundleError: If a name is none of its classes.
    """
    names = spec.label_scheme.names
    if unknown := sorted(set(segments) - set(names)):
        raise BundleError(f"{', '.join(unknown)}: no class or region of the model; expected {', '.join(names)}")
    return spec.model_copy(update={"segments": segments})


def add_missing(folder: Path) -> None:
    """Add to a bundle the files and metadata that an earlier version of unetpipe did not write.

    Raises:
        BundleError: If it cannot be read.
    """
    bundle, found = read_bundle(folder), read_metadata(folder)
    configs = generated_configs(bundle.spec, list(bundle.network_defs), bundle.release, About.of(found))
    for name, content in configs.items():
        path = folder / "configs" / f"{name}.json"
        if not path.is_file():
            write_json(path, content)
    add_data_license(folder)
    _change(folder, {key: value for key, value in configs["metadata"].items() if key not in found})


def write_tracking_run(folder: Path, run_id: str) -> None:
    """Let a bundle folder name another tracking run as the one that trained it."""
    spec = read_metadata(folder)[SPEC_KEY]
    _change(folder, {SPEC_KEY: {**spec, "tracking_run": run_id}})


def _change(folder: Path, changes: Mapping[str, Any]) -> None:
    """Replace entries of a bundle's metadata, or add them."""
    found = read_metadata(folder)
    if any(found.get(key) != value or key not in found for key, value in changes.items()):
        write_json(folder / METADATA, {**found, **changes})
