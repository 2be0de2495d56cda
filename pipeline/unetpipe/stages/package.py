"""A bundle made ready to hand on: checked, exported to TorchScript, packed."""

import json
import logging
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from unetpipe.bundle.read import read_bundle
from unetpipe.bundle.verify import Check, bundle_files, verify_bundle
from unetpipe.config import PackageConfig
from unetpipe.documents import Record
from unetpipe.errors import BundleError
from unetpipe.files import atomic_path

log = logging.getLogger(__name__)

_EPOCH = (
    1980,
    1,
    1,
    0,
    0,
    0,
)  # the earliest a zip can say: the same for every file, so that equal bundles pack equally
_TOLERANCE = 1e-3  # of logits; scripting fuses operations in another order


class PackageResult(Record):
    """What `package` found and wrote.

    Attributes:
        passed: Every check passed; nothing is exported or packed otherwise.
        checks: What was looked at.
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
        pack(config.model, config.zip)
        log.info("packed %s", config.zip)
    return PackageResult(passed=True, checks=checks, torchscript=script, zip=config.zip)


def export_torchscript(folder: Path) -> Path:
    """Write `models/model.ts`: `network_def` with its weights, in the form `monai.data.load_net_with_metadata` reads.

    Raises:
        BundleError: If the network cannot be scripted, or answers differently when it is.
    """
    from monai.data import save_net_with_metadata

    network = read_bundle(folder).network()
    network._forward_hooks.clear()  # a two-class network's own single output, as MONAI's tools expect of network_def
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    window = metadata["network_data_format"]["inputs"]["image"]
    example = torch.randn(
        1, window["num_channels"], *window["spatial_shape"], generator=torch.Generator().manual_seed(0)
    )
    target = folder / "models" / "model.ts"
    with atomic_path(target) as temporary:
        save_net_with_metadata(_scripted(network, example), str(temporary), meta_values=metadata)
    return target


def _scripted(network: nn.Module, example: Tensor) -> torch.jit.ScriptModule:
    name = type(network).__name__
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls TorchScript old; it is what MONAI's deployment tools read
            scripted = torch.jit.script(network)
    except Exception as error:  # the compiler raises what it likes
        raise BundleError(f"{name} cannot be exported to TorchScript: {str(error).splitlines()[0]}") from error
    with torch.inference_mode():
        difference = float((scripted(example) - network(example)).abs().max())
    if difference > _TOLERANCE:
        raise BundleError(f"{name} exported to TorchScript differs from itself by {difference:.2g} in its logits")
    return scripted


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
