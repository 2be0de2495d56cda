"""A bundle made ready to hand on: checked, exported to TorchScript, packed."""

import logging
import zipfile
from pathlib import Path

from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.torchscript import SCRIPT, write_torchscript
from unetpipe.bundle.verify import Check, bundle_files, verify_bundle
from unetpipe.bundle.write import write_release
from unetpipe.config import PackageConfig
from unetpipe.documents import Record
from unetpipe.errors import BundleError
from unetpipe.files import atomic_path

log = logging.getLogger(__name__)

# the earliest that a zip can say: the same for every file, so that equal bundles give equal zips
_EPOCH = (1980, 1, 1, 0, 0, 0)


class PackageResult(Record):
    """The checks and files of `package`.

    Attributes:
        passed: Every check passed; nothing is exported or packed otherwise.
        checks: Checks of the bundle.
        torchscript, zip: Files written.
    """

    passed: bool
    checks: tuple[Check, ...]
    torchscript: Path | None = None
    zip: Path | None = None


def package(config: PackageConfig) -> PackageResult:
    """Check a bundle folder and, if it passes, export and pack it.

    Raises:
        BundleError: If there is no such folder, or the network cannot be exported.
    """
    checks = verify_bundle(config.model)
    if not all(check.passed for check in checks):
        return PackageResult(passed=False, checks=checks)
    script = None
    if config.torchscript:
        script = export_torchscript(config.model)
        log.info("exported %s", script)
    if config.zip:
        _count_up(config.model, config.zip)
        pack(config.model, config.zip)
        log.info("packed %s", config.zip)
    return PackageResult(passed=True, checks=checks, torchscript=script, zip=config.zip)


def _count_up(folder: Path, target: Path) -> None:
    """Give a bundle the version after that of another model which it is about to replace as a zip."""
    if not target.is_file():
        return
    try:
        earlier = read_bundle(target)
        bundle = read_bundle(folder)
        changes = bundle.model().changes_from(earlier.model())
    except BundleError:  # what is there is no model
        return
    if changes and not bundle.release.follows(earlier.release):
        release = earlier.release.after(changes)
        write_release(folder, release)
        log.info("version %s of the model in %s: %s", release.version, target.name, changes)


def export_torchscript(folder: Path) -> Path:
    """Write `models/model.ts`: `network_def` with its weights. A bundle whose network is TorchScript has it already.

    Raises:
        BundleError: If the network cannot be exported, or answers differently when it is.
    """
    bundle = read_bundle(folder)
    if bundle.spec.registered_network is not None:
        return folder / SCRIPT
    return write_torchscript(folder, bundle.network())


def pack(folder: Path, target: Path) -> None:
    """Zip what belongs to the bundle under a folder of the zip's name; the same files give the same bytes."""
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path in sorted(bundle_files(folder)):
            name = Path(target.stem, path.relative_to(folder)).as_posix()
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.external_attr = 0o644 << 16
            # weights hardly shrink
            entry.compress_type = zipfile.ZIP_STORED if path.suffix in {".pt", ".ts"} else zipfile.ZIP_DEFLATED
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as member:
                while block := source.read(1 << 20):
                    member.write(block)
