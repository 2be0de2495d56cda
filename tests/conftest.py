"""Fixtures shared by all tests."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

if TYPE_CHECKING:
    from unetpipe.dataset.planning.plan import Configuration


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Messages that the package logs while a test runs, from level INFO on."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign] # the least code
    package = logging.getLogger("unetpipe")
    level = package.level
    package.setLevel(logging.INFO)
    package.addHandler(handler)
    yield messages
    package.removeHandler(handler)
    package.setLevel(level)


@pytest.fixture(autouse=True)
def _forget_parts() -> Iterator[None]:
    """Parts that a test registers are gone after it; those that the package registers as it is imported stay."""
    from unetpipe import components

    before = set(components._REGISTERED)
    yield
    for key in set(components._REGISTERED) - before:
        if not components._REGISTERED[key].__module__.startswith("unetpipe."):
            del components._REGISTERED[key], components._SOURCES[key]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets that UNETPIPE_TEST_DATA names; what needs them skips where it is not set."""
    folder = os.environ.get("UNETPIPE_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("the real datasets are not here: UNETPIPE_TEST_DATA names no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def _untrained_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from unetpipe.bundle.spec import ModelSpec
    from unetpipe.bundle.write import write_bundle
    from unetpipe.dataset.label_scheme import LabelClass
    from unetpipe.dataset.planning.plan import Configuration
    from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing
    from unetpipe.networks.build import build_network
    from unetpipe.networks.definition import network_definition

    configuration = Configuration(
        spacing_mm=(1.0, 1.0, 1.0),
        interpolation=("cubic", "cubic", "cubic"),
        median_shape=(24, 24, 24),
        patch_size=(16, 16, 16),
        batch_size=2,
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        kernel_sizes=((3, 3, 3), (3, 3, 3), (3, 3, 3)),
        features=(4, 8, 16),
    )
    labels = (
        LabelClass(name="background", value=0),
        LabelClass(name="liver", value=1),
        LabelClass(name="spleen", value=3),
    )
    spec = ModelSpec(
        spatial_dims=3,
        channels=("CT",),
        labels=labels,
        preprocessing=Preprocessing(
            spacing_mm=configuration.spacing_mm,
            interpolation=configuration.interpolation,
            normalization=(ChannelNormalization(scheme="zscore"),),
        ),
        patch_size=configuration.patch_size,
        mirror_axes=(0, 1, 2),
    )
    definition = network_definition("dynunet", configuration, in_channels=1, classes=len(labels))
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("untrained") / "bundle"
    write_bundle(folder, spec, definition, build_network(definition).state_dict())
    return folder


@pytest.fixture
def bundle_folder(_untrained_bundle: Path, tmp_path: Path) -> Path:
    """A small DynUNet with random weights to read, spoil and write into: 1 channel, 3 classes, patch 16³."""
    return Path(shutil.copytree(_untrained_bundle, tmp_path / "bundle"))


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Write a bundle with random weights under a name: axes, channels, label values, patch, spacing as asked for."""
    import torch

    from unetpipe.bundle.spec import ModelSpec
    from unetpipe.bundle.write import write_bundle
    from unetpipe.dataset.label_scheme import LabelClass
    from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing
    from unetpipe.networks.build import build_network

    def make(
        name: str = "model",
        *,
        patch: tuple[int, ...] = (16, 16, 16),
        spacing_mm: tuple[float, ...] | None = None,
        channels: int = 1,
        values: tuple[int, ...] = (0, 1, 2),
        seed: int = 0,
        **more: Any,
    ) -> Path:
        dims = len(patch)
        classes = tuple(LabelClass(name=f"class {n}", value=value) for n, value in enumerate(values))
        plain = Preprocessing(
            spacing_mm=spacing_mm or (1.0,) * dims,
            interpolation=("cubic",) * dims,
            normalization=(ChannelNormalization(scheme="zscore"),) * channels,
        )
        spec = ModelSpec(
            spatial_dims=2 if dims == 2 else 3,
            channels=tuple(f"channel {n}" for n in range(channels)),
            patch_size=patch,
            **{"labels": classes, "mirror_axes": tuple(range(dims)), "preprocessing": plain, **more},
        )
        definition = {
            "_target_": "monai.networks.nets.UNet",
            "spatial_dims": dims,
            "in_channels": channels,
            "out_channels": len(values),
            "channels": [6, 8],
            "strides": [2],
            "norm": "batch",
        }
        torch.manual_seed(seed)
        write_bundle(tmp_path / name, spec, definition, build_network(definition).state_dict())
        return tmp_path / name

    return make


def write_balls(folder: Path, cases: int = 6, size: int = 20) -> Path:
    """Write an MSD folder: a bright ball and a dark one, of varying place and size, in noise."""
    rng = np.random.default_rng(0)
    axes = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)
    training = []
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in range(cases):
        image = rng.normal(100, 5, (size,) * 3)
        label = np.zeros((size,) * 3, np.uint8)
        for value, (low, high) in enumerate([(5, 8), (12, 15)], start=1):
            ball = np.linalg.norm(axes - rng.uniform(low, high, 3), axis=-1) < rng.uniform(3.5, 4.5)
            image[ball] += 60 if value == 1 else -60
            label[ball] = value
        for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            nib.save(nib.Nifti1Image(array, np.diag([-1.0, 1.0, 1.0, 1.0])), folder / part / f"ball_{case}.nii.gz")
        training.append({"image": f"./imagesTr/ball_{case}.nii.gz", "label": f"./labelsTr/ball_{case}.nii.gz"})
    dataset = {
        "name": "Balls",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "bright", "2": "dark"},
        "numTraining": cases,
        "training": training,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset that a network learns in seconds."""
    return write_balls(tmp_path_factory.mktemp("balls"))


@pytest.fixture(scope="session")
def balls_work(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset preprocessed, with a small network planned; not to be written into."""
    import yaml

    from unetpipe.config.preprocess import PreprocessConfig
    from unetpipe.stages.preprocess import preprocess

    out = tmp_path_factory.mktemp("work") / "balls"
    preprocess(PreprocessConfig(dataset=balls, out=out, preview=False, folds=3))
    plan = yaml.safe_load((out / "plan.yaml").read_text())
    configuration = plan["configurations"]["3d_fullres"]
    configuration["features"] = [8, 16, 32, 64][: len(configuration["features"])]
    configuration["batch_size"] = 2
    (out / "plan.yaml").write_text(yaml.safe_dump(plan))
    return out


@pytest.fixture
def work(balls_work: Path, tmp_path: Path) -> Path:
    """A copy of the preprocessed dataset to train in."""
    return Path(shutil.copytree(balls_work, tmp_path / "work"))


@pytest.fixture
def retina() -> "Configuration":
    """What nnU-Net plans for photographs of 565x584 pixels."""
    from unetpipe.dataset.planning.plan import Configuration
    from unetpipe.dataset.planning.topology import make_topology

    topology = make_topology((1.0, 1.0), (584, 565))
    return Configuration(
        spacing_mm=(1.0, 1.0),
        interpolation=("cubic", "cubic"),
        median_shape=(565, 584),
        patch_size=topology.patch_size,
        batch_size=2,
        strides=topology.strides,
        kernel_sizes=topology.kernel_sizes,
        features=topology.features,
    )


@pytest.fixture
def heart() -> "Configuration":
    """What nnU-Net plans for ten thick slices of the heart: axes (I, J, K), the coarsest last."""
    from unetpipe.dataset.planning.plan import Configuration
    from unetpipe.dataset.planning.topology import make_topology

    topology = make_topology((8.0, 1.5, 1.5), (10, 256, 224))
    return Configuration(
        spacing_mm=(1.5, 1.5, 8.0),
        interpolation=("cubic", "cubic", "nearest"),
        median_shape=(224, 256, 10),
        patch_size=topology.patch_size[::-1],
        batch_size=7,
        strides=tuple(one[::-1] for one in topology.strides),
        kernel_sizes=tuple(one[::-1] for one in topology.kernel_sizes),
        features=topology.features,
    )


@pytest.fixture
def heart_slices(heart: "Configuration") -> "Configuration":
    """The same slices one by one."""
    return heart.model_copy(
        update={
            "patch_size": (256, 256, 1),
            "strides": ((1, 1, 1), *((2, 2, 1),) * 6),
            "kernel_sizes": ((3, 3, 1),) * 7,
            "features": (32, 64, 128, 256, 512, 512, 512),
        }
    )
