"""`unetpipe info`: this installation, a folder that unetpipe made, or what a DICOM source holds."""

import importlib.metadata
import platform
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from unetpipe import __version__
from unetpipe.config.info import InfoConfig
from unetpipe.cores import available_cores
from unetpipe.dataset.run_folders import fold_folders, run_folders
from unetpipe.documents import Record
from unetpipe.errors import UnetpipeError
from unetpipe.imaging.dicom.sources import is_dicom
from unetpipe.imaging.dicom.volume_row import VolumeRow
from unetpipe.training.budget_choice import Considered

if TYPE_CHECKING:  # they import torch or numpy, which `unetpipe --help` has no use for
    from torch import nn

    from unetpipe.imaging.preprocessing import Preprocessing

_LIBRARIES = ("torch", "monai", "numpy", "nibabel", "SimpleITK", "pydicom", "blosc2", "mlflow")
_GB, _MB = 2**30, 2**20


class Installation(Record):
    """The installed version, its libraries and the devices of this machine."""

    version: str
    python: str
    platform: str
    cores: int
    memory_gb: float
    devices: tuple[str, ...]
    auto_precision: str
    libraries: dict[str, str]


class StageRow(Record):
    """One stage of a network, for one patch.

    Attributes:
        layers: Layers that are not norms or activations, in the order in which they run.
        gflops: Billions of floating-point operations in products; a multiplication and an addition are two.
        memory_mb: Megabytes of all feature maps in float32, as training keeps them.
    """

    shape: str
    channels: int
    layers: str
    parameters: int
    gflops: float
    memory_mb: float


class NetworkSummary(Record):
    """Parameters, operations and memory of a network.

    Attributes:
        drawing: Drawing in the symbols of the U-Net paper; empty for a network of another form. Left out of JSON.
        stages: Stages in the order in which they run; empty for a network without stages, such as a transformer.
    """

    network: str
    parameters: int
    gflops: float | None
    memory_mb: float | None
    drawing: str = Field("", exclude=True)
    stages: tuple[StageRow, ...]


class WorkFolder(NetworkSummary):
    """The contents of a work folder after preprocessing and training."""

    name: str
    cases: int
    labelled: int
    channels: tuple[str, ...]
    labels: dict[int, str]
    folds: int
    configuration: str
    spacing_mm: tuple[float, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    features: tuple[int, ...]
    runs: tuple[str, ...]


class BundleFolder(NetworkSummary):
    """A model.

    Attributes:
        networks: Number of networks whose logits it averages; the summary is of the first one.
        budget: What each network's training took of the plan in its minutes, and why; empty where all of it.
        considered: Versions of the plan that were weighed for the first network, as far as the chosen one.
    """

    networks: int
    channels: tuple[str, ...]
    labels: dict[int, str]
    spacing_mm: tuple[float, ...]
    normalization: tuple[str, ...]
    patch_size: tuple[int, ...]
    budget: tuple[str, ...]
    considered: tuple[Considered, ...]
    sha256: str


class ForeignBundleFolder(NetworkSummary):
    """A model that others made, as it is understood.

    Attributes:
        preprocessing: Transforms of the image, in order.
        windows: The sliding window.
        postprocessing: From logits to labels, in order.
    """

    channels: tuple[str, ...]
    labels: dict[int, str]
    preprocessing: tuple[str, ...]
    windows: str
    postprocessing: tuple[str, ...]
    sha256: str


class DicomSource(Record):
    """The contents of a folder, zip or file of DICOM.

    Attributes:
        left_out: Number of files of each kind that are no image of a volume.
        damaged: Why files that should be images cannot be read.
    """

    studies: int
    series: int
    left_out: str
    damaged: tuple[str, ...]
    volumes: tuple[VolumeRow, ...]


def info(config: InfoConfig) -> Installation | WorkFolder | BundleFolder | ForeignBundleFolder | DicomSource:
    """Describe what lies at a path, or this installation where none is given.

    Raises:
        UnetpipeError: If the path is no work folder, no bundle and no DICOM.
    """
    path = config.path
    if path is None:
        return _installation()
    if (path / "manifest.json").is_file():
        return _work_folder(path)
    if (path / "configs" / "metadata.json").is_file():
        return _bundle(path)
    if is_dicom(path):
        return _dicom_source(path)
    if path.suffix == ".zip" or not path.exists():
        return _bundle(path)
    raise UnetpipeError(
        f"{path} is neither a work folder (manifest.json) nor a bundle (configs/metadata.json) nor DICOM"
    )


def _installation() -> Installation:
    import psutil
    import torch

    from unetpipe.networks.device import compute_dtype, resolve_device

    devices = [_cuda_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return Installation(
        version=__version__,
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        cores=available_cores(),
        memory_gb=round(psutil.virtual_memory().total / _GB, 1),
        devices=(*devices, "cpu"),
        auto_precision=str(compute_dtype(resolve_device("auto"), "auto")).removeprefix("torch."),
        libraries={name: _version(name) for name in _LIBRARIES},
    )


def _cuda_name(index: int) -> str:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return f"cuda:{index} {properties.name} {properties.total_memory / _GB:.0f} GB"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _work_folder(path: Path) -> WorkFolder:
    from unetpipe.dataset.folds import read_folds
    from unetpipe.dataset.manifest import read_manifest
    from unetpipe.dataset.planning.plan import read_plan
    from unetpipe.networks.build import build_network
    from unetpipe.networks.definition import network_definition

    manifest, plan = read_manifest(path, with_files=False), read_plan(path)
    chosen = plan.configurations[plan.default]
    scheme = manifest.label_scheme
    definition = network_definition(
        "auto", chosen, len(manifest.channels), scheme.count, overlapping=scheme.overlapping
    )
    return WorkFolder(
        name=manifest.name,
        cases=len(manifest.cases),
        labelled=sum(case.label is not None or not case.images for case in manifest.cases),
        channels=manifest.channels,
        labels=scheme.names_by_value,
        folds=len(read_folds(path).folds),
        configuration=plan.default,
        spacing_mm=chosen.spacing_mm,
        patch_size=chosen.patch_size,
        batch_size=chosen.batch_size,
        features=chosen.features,
        **_network_summary(build_network(definition), definition, chosen.patch_size),
        runs=tuple(str(fold.relative_to(path)) for run in run_folders(path) for fold in fold_folders(run).values()),
    )


def _bundle(path: Path) -> BundleFolder | ForeignBundleFolder:
    from unetpipe.bundle.foreign.description import preprocessing_lines, readout_lines, windows_line
    from unetpipe.bundle.foreign.read import ForeignBundle
    from unetpipe.bundle.named import read_models

    bundle, *_ = read_models(path)
    if isinstance(bundle, ForeignBundle):
        windows = bundle.spec.windows
        return ForeignBundleFolder(
            **_network_summary(bundle.network(), bundle.network_def, windows.patch_size),
            channels=bundle.spec.channels,
            labels=bundle.spec.label_scheme.names_by_value,
            preprocessing=preprocessing_lines(bundle.spec),
            windows=windows_line(bundle.spec),
            postprocessing=readout_lines(bundle.spec),
            sha256=bundle.sha256,
        )
    trained = bundle.spec.evidence.folds if bundle.spec.evidence else ()
    considered = trained[0].choice.considered if trained and trained[0].choice else ()
    return BundleFolder(
        **_network_summary(bundle.networks()[0], bundle.network_def, bundle.spec.patch_size),
        networks=len(bundle.network_defs),
        channels=bundle.spec.channels,
        labels=bundle.spec.label_scheme.names_by_value,
        spacing_mm=bundle.spec.preprocessing.spacing_mm,
        normalization=_schemes(bundle.spec.preprocessing),
        patch_size=bundle.spec.patch_size,
        budget=tuple(fold.plan_sentence for fold in trained if fold.choice),
        considered=considered,
        sha256=bundle.sha256,
    )


def _dicom_source(path: Path) -> DicomSource:
    from unetpipe.imaging.dicom.listing import list_volumes

    contents, rows = list_volumes(path)
    return DicomSource(
        studies=len({series.study for series in contents.series}),
        series=len(contents.series),
        left_out=contents.described_left_out,
        damaged=tuple(sorted({damaged.reason for damaged in contents.damaged})),
        volumes=rows,
    )


def _network_summary(network: "nn.Module", definition: dict[str, Any], patch: tuple[int, ...]) -> dict[str, Any]:
    from unetpipe.networks.build import input_channels, network_name
    from unetpipe.networks.summary import summarize_network
    from unetpipe.report.network_drawing import draw

    stages = summarize_network(network, input_channels(definition), patch)
    return {
        "network": network_name(definition),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "gflops": round(sum(stage.flops for stage in stages) / 1e9, 3) if stages else None,
        "memory_mb": round(sum(stage.bytes for stage in stages) / _MB, 1) if stages else None,
        "drawing": draw(stages),
        "stages": tuple(
            StageRow(
                shape="x".join(map(str, stage.shape)),
                channels=stage.channels,
                layers=_layers([step.words for step in stage.steps]),
                parameters=stage.parameters,
                gflops=round(stage.flops / 1e9, 3),
                memory_mb=round(stage.bytes / _MB, 1),
            )
            for stage in stages
        ),
    }


def _layers(words: list[str]) -> str:
    """Layers in a row, with repeated ones counted."""
    return ", ".join(f"{count} x {word}" if count > 1 else word for word, count in Counter(words).items())


def _schemes(preprocessing: "Preprocessing") -> tuple[str, ...]:
    return tuple(channel.scheme for channel in preprocessing.normalization)
