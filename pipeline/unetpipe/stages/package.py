"""A bundle made ready to hand on: checked, exported to other formats, packed."""

import logging
import zipfile
from pathlib import Path

import torch

from unetpipe.bundle.exports import Export, Format, Sample, export
from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.segment_codes import read_segments
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.torchscript import SCRIPT
from unetpipe.bundle.verify import Check, bundle_files, verify_bundle
from unetpipe.bundle.write import write_release, write_segments
from unetpipe.config.package import PackageConfig
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.dataset.store import CaseStore, cases_folder
from unetpipe.documents import Record
from unetpipe.errors import BundleError
from unetpipe.files import atomic_path
from unetpipe.inference.sliding_window import central_window

log = logging.getLogger(__name__)

# the earliest that a zip can say: the same for every file, so that equal bundles give equal zips
_EPOCH = (1980, 1, 1, 0, 0, 0)


class PackageResult(Record):
    """The checks and files of `package`.

    Attributes:
        passed: Every check passed; nothing is exported or packed otherwise.
        checks: Checks of the bundle.
        torchscript, zip: Files written.
        exports: What else was exported, and how far it is from what torch gives.
    """

    passed: bool
    checks: tuple[Check, ...]
    torchscript: Path | None = None
    exports: tuple[Export, ...] = ()
    zip: Path | None = None


def package(config: PackageConfig) -> PackageResult:
    """Check a bundle folder and, if it passes, export and pack it.

    Raises:
        BundleError: If there is no such folder, or the network cannot be exported.
    """
    if config.segments is not None:
        write_segments(config.model, read_segments(config.segments))
    checks = verify_bundle(config.model)
    if not all(check.passed for check in checks):
        return PackageResult(passed=False, checks=checks)
    exports = _exported(config)
    if config.zip:
        _count_up(config.model, config.zip)
        pack(config.model, config.zip)
        log.info("packed %s", config.zip)
    script = config.model / SCRIPT if config.torchscript else None
    return PackageResult(passed=True, checks=checks, torchscript=script, exports=exports, zip=config.zip)


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


def _exported(config: PackageConfig) -> tuple[Export, ...]:
    """Export to the formats that were asked for. A bundle whose network is TorchScript has that already."""
    wanted: dict[Format, bool] = {
        "torchscript": config.torchscript,
        "onnx": config.onnx,
        "pt2": config.pt2,
        "openvino": config.openvino,
    }
    bundle = read_bundle(config.model)
    if bundle.spec.registered_network is not None:
        wanted["torchscript"] = False
    formats = tuple(name for name, asked in wanted.items() if asked)
    if not formats:
        return ()
    exports = export(config.model, bundle, formats, _sample(config.model, bundle.spec))
    for one in exports:
        log.info(
            "exported %s: logits differ by %.1g, %d of %d voxels get another class",
            one.file, one.difference, one.differing_voxels, one.voxels,
        )  # fmt: skip
    return exports


def _sample(folder: Path, spec: ModelSpec) -> Sample:
    """A window of a case that the bundle was trained beside, or random values where its work folder is not there."""
    work = folder.resolve().parents[2]
    if (work / "plan.yaml").is_file():
        for name, configuration in read_plan(work).configurations.items():
            if configuration.patch_size == spec.patch_size and cases_folder(work, name).is_dir():
                store = CaseStore(work, name)
                values = torch.from_numpy(store.load(store.ids[0])[:-1]).float()
                return Sample(central_window(values, spec.patch_size), "a window of a case of its dataset")
    shape = (1, len(spec.channels), *spec.patch_size)
    return Sample(torch.randn(shape, generator=torch.Generator().manual_seed(1)), "random values")


def pack(folder: Path, target: Path) -> None:
    """Zip what belongs to the bundle under a folder of the zip's name; the same files give the same bytes."""
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path in sorted(bundle_files(folder)):
            name = Path(target.stem, path.relative_to(folder)).as_posix()
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.external_attr = 0o644 << 16
            # weights hardly shrink
            entry.compress_type = (
                zipfile.ZIP_STORED if path.suffix in {".pt", ".ts", ".pt2", ".bin"} else zipfile.ZIP_DEFLATED
            )
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as member:
                while block := source.read(1 << 20):
                    member.write(block)
