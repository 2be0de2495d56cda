"""A bundle made ready to hand on: checked, exported to other formats, packed."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unetpipe.bundle.ensemble import ensemble_of, write_ensemble
from unetpipe.bundle.exports import PREPROCESSING, Export, Format, Sample, export, remove_outdated
from unetpipe.bundle.large_files import write_large_files
from unetpipe.bundle.nnunet.convert import convert
from unetpipe.bundle.pack import pack
from unetpipe.bundle.preprocessing_document import preprocessing_document
from unetpipe.bundle.read import Bundle, read_bundle
from unetpipe.bundle.registration import register_bundle
from unetpipe.bundle.release import Release
from unetpipe.bundle.revise import add_missing, read_about, write_about, write_release, write_segments
from unetpipe.bundle.segment_codes import read_segment_codes
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.torchscript import SCRIPT
from unetpipe.bundle.verify import Check, verify_bundle
from unetpipe.bundle.write import DATA_LICENSE
from unetpipe.config.package import PackageConfig
from unetpipe.dataset.folds import choose_folds, read_folds
from unetpipe.dataset.layouts.reading import read_text
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.dataset.run_folders import fold_folders
from unetpipe.dataset.store import CaseStore, cases_folder
from unetpipe.documents import Record
from unetpipe.errors import BundleError
from unetpipe.files import write_json, write_text
from unetpipe.imaging.dicom.derived.codes import SegmentCode
from unetpipe.inference.sliding_window import central_window
from unetpipe.tracking.parent import noted_run
from unetpipe.tracking.registry import RegisteredVersion
from unetpipe.training.one_split import folds_of_another_split

log = logging.getLogger(__name__)


class PackageResult(Record):
    """The checks and files of `package`.

    Attributes:
        passed: Every check passed; nothing is exported or packed otherwise.
        bundle: Folder of the bundle.
        checks: Checks of the bundle.
        torchscript, zip: Files written.
        exports: What else was exported, and how far it is from what torch gives.
        registered: The version in MLflow's model registry.
    """

    passed: bool
    bundle: Path
    checks: tuple[Check, ...]
    torchscript: Path | None = None
    exports: tuple[Export, ...] = ()
    zip: Path | None = None
    registered: RegisteredVersion | None = None


def package(config: PackageConfig) -> PackageResult:
    """Check a bundle folder, or make one of several folds or of nnU-Net's; if it passes, export, pack and register it.

    Raises:
        BundleError: If there is no such folder, its folds make no ensemble, or the network cannot be exported.
        TrainingError: If `config.folds` names folds that the work folder does not have.
        DatasetError: If the licence of the data is no text.
        TrackingError: If the bundle cannot be registered.
    """
    segments = read_segment_codes(config.segments) if config.segments else None
    data_license = read_text(config.data_license) if config.data_license else None
    folder = _folder(config, segments)
    bundle = _readable(folder)
    formats: tuple[Format, ...] = ()
    if bundle is not None:  # or else the checks say why
        add_missing(folder)
        asked = _asked(config)
        formats = _formats(asked, folder, bundle.spec)  # before an outdated model.ts goes
        remove_outdated(folder, formats, bundle.sha256, asked=asked)
        _describe_again(folder, bundle)
        _state(config, folder, data_license)  # before the export: TorchScript carries the metadata
        write_large_files(folder)
    checks = verify_bundle(folder)
    if not all(check.passed for check in checks):
        return PackageResult(passed=False, bundle=folder, checks=checks)
    exports = _exported(config, folder, formats)
    write_large_files(folder)
    if config.zip:
        pack(folder, config.zip)
        log.info("packed %s", config.zip)
    script = folder / SCRIPT if config.torchscript else None
    registered = None
    if config.register_as:
        registered = register_bundle(folder, _work_folder(config), config.register_as, config.alias)
    return PackageResult(
        passed=True,
        bundle=folder,
        checks=checks,
        torchscript=script,
        exports=exports,
        zip=config.zip,
        registered=registered,
    )


def _readable(folder: Path) -> Bundle | None:
    try:
        return read_bundle(folder)
    except BundleError:
        return None


def _folder(config: PackageConfig, segments: Mapping[str, SegmentCode] | None) -> Path:
    """The bundle's folder, which is made where it is to be."""
    if config.model is not None and config.out is not None:
        return _ensemble(config, config.model, config.out, segments)
    folder = config.model
    if config.from_nnunet is not None and config.out is not None:
        folder = config.out
        _import_nnunet(config.from_nnunet, folder, config.folds)
    assert folder is not None  # the config saw to it
    if segments is not None:
        write_segments(folder, segments)
    return folder


def _describe_again(folder: Path, bundle: Bundle) -> None:
    """Bring the description beside an export up to date, if something but the weights has changed since."""
    path, document = folder / PREPROCESSING, preprocessing_document(bundle.spec, bundle.network_def)
    if path.is_file() and _json_or_none(path) != json.loads(json.dumps(document)):
        write_json(path, document)  # and only then: the bundle may lie where nothing can be written


def _json_or_none(path: Path) -> Any:
    """What a file says; None where it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _import_nnunet(model: Path, out: Path, folds: str | None) -> None:
    """Make a bundle of a model folder of nnU-Net's."""
    chosen = None
    if folds not in (None, "all"):
        chosen = choose_folds(str(folds), max(fold_folders(model), default=0) + 1)
    taken = convert(model, out, None if chosen is None else tuple(chosen))
    log.info("%s: made of fold %s of %s", out, ", ".join(map(str, taken)), model.name)


def _ensemble(config: PackageConfig, run: Path, out: Path, segments: Mapping[str, SegmentCode] | None) -> Path:
    """Make one bundle of the folds of a run."""
    work = _work_folder(config)
    found = fold_folders(run)
    if not found:
        raise BundleError(f"{run}: no fold_* in it: --folds takes a run's folder, such as WORK/runs/default")
    folds = read_folds(work).folds if (work / "folds.json").is_file() else None
    wanted = choose_folds(str(config.folds), max(found) + 1 if folds is None else len(folds))
    if absent := [str(fold) for fold in wanted if fold not in found]:
        trained = ",".join(map(str, sorted(found)))
        raise BundleError(f"{run}: not trained: fold {', '.join(absent)}; --folds {trained} takes those that are")
    other = set(wanted) & set(folds_of_another_split(run, folds) if folds else ())
    if other and (rest := set(wanted) - other):
        before, now = (", ".join(map(str, sorted(some))) for some in (other, rest))
        raise BundleError(f"{run}: fold {before} was trained with another split than fold {now}: they are no ensemble")
    bundles = {fold: read_bundle(found[fold]) for fold in wanted}
    earlier = _readable(out) if segments is None else None
    if earlier is not None and earlier.spec.label_scheme.names == bundles[wanted[0]].spec.label_scheme.names:
        segments = earlier.spec.segments or None  # of a bundle that is renewed
    write_ensemble(out, ensemble_of(bundles, noted_run(run)), segments)
    if segments is not None:
        write_segments(out, segments)  # also an empty table, which takes codes away
    log.info("%s: ensemble of folds %s", out, ", ".join(map(str, wanted)))
    return out


def _work_folder(config: PackageConfig) -> Path:
    """The folder that the model lies in, if it was trained there: three above a fold, two above a run."""
    model, levels = config.model or config.out, 2 if config.model and config.out else 3
    assert model is not None
    above = [model.resolve(), *model.resolve().parents]
    return above[min(levels, len(above) - 1)]


def _state(config: PackageConfig, folder: Path, data_license: str | None) -> None:
    """Write into a bundle what its author states of it, and its version."""
    about = read_about(folder)
    stated = about.stated(
        authors=config.authors,
        copyright=config.copyright,
        data_source=config.data_source,
        references=config.reference,
    )
    if stated != about:
        write_about(folder, stated)
    if data_license is not None:
        write_text(folder / DATA_LICENSE, data_license)
    bundle = read_bundle(folder)
    release = (_counted(bundle, config.zip) or bundle.release).named(config.version, config.changes)
    if release != bundle.release:
        write_release(folder, release)
        log.info("version %s: %s", release.version, release.changelog[release.version])


def _counted(bundle: Bundle, target: Path | None) -> Release | None:
    """The version after that of another model which a bundle is about to replace as a zip; None where it has it."""
    if target is None or not target.is_file():
        return None
    try:
        earlier = read_bundle(target)
        changes = bundle.model().changes_from(earlier.model())
    except BundleError:  # what is there is no model
        return None
    return earlier.release.after(changes) if changes and not bundle.release.follows(earlier.release) else None


def _asked(config: PackageConfig) -> tuple[Format, ...]:
    """The formats that were asked for."""
    wanted: dict[Format, bool] = {
        "torchscript": config.torchscript,
        "onnx": config.onnx,
        "pt2": config.pt2,
        "openvino": config.openvino,
    }
    return tuple(name for name, is_wanted in wanted.items() if is_wanted)


def _formats(asked: tuple[Format, ...], folder: Path, spec: ModelSpec) -> tuple[Format, ...]:
    """The formats to export to. A bundle whose network is TorchScript has that already.

    TorchScript that is there is exported anew, as it carries the metadata, and with them the version.
    """
    others = tuple(name for name in asked if name != "torchscript")
    is_scripted = ("torchscript" in asked or (folder / SCRIPT).is_file()) and spec.registered_network is None
    formats: tuple[Format, ...] = ("torchscript", *others) if is_scripted else others
    if formats and spec.parts:
        inside = ", ".join(part.folder for part in spec.parts)
        raise BundleError(f"{folder}: holds several models ({inside}), which no single file of an export would hold")
    return formats


def _exported(config: PackageConfig, folder: Path, formats: tuple[Format, ...]) -> tuple[Export, ...]:
    """Export to some formats."""
    if not formats:
        return ()
    bundle = read_bundle(folder)
    exports = export(folder, bundle, formats, _sample(_work_folder(config), bundle.spec))
    for one in exports:
        log.info(
            "exported %s: logits differ by %.1g, %d of %d voxels get another class",
            one.file, one.difference, one.differing_voxels, one.voxels,
        )  # fmt: skip
    return exports


def _sample(work: Path, spec: ModelSpec) -> Sample:
    """A window of a case that the bundle was trained beside, or random values where its work folder is not there."""
    if (work / "plan.yaml").is_file():
        for name, configuration in read_plan(work).configurations.items():
            if configuration.patch_size == spec.patch_size and cases_folder(work, name).is_dir():
                store = CaseStore(work, name)
                if not store.ids:
                    continue
                values = torch.from_numpy(store.load(store.ids[0])[:-1]).float()
                return Sample(central_window(values, spec.patch_size), "a window of a case of its dataset")
    shape = (1, spec.input_channels, *spec.patch_size)
    return Sample(torch.randn(shape, generator=torch.Generator().manual_seed(1)), "random values")
