"""Write the templates beside this file anew: the U-Net as published in 2-D and in 3-D, as bundles without weights."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from unetpipe.bundle.about import About
from unetpipe.bundle.recipe import TrainingRecipe
from unetpipe.bundle.release import Release
from unetpipe.bundle.spec import ModelSpec
from unetpipe.bundle.write import generated_configs
from unetpipe.components import Definition
from unetpipe.dataset.label_scheme import LabelClass
from unetpipe.dataset.planning.plan import Configuration
from unetpipe.files import write_json, write_text
from unetpipe.imaging.geometry import Shape
from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing
from unetpipe.networks.unets import Normalization, classic_unet


@dataclass(frozen=True)
class Template:
    """A U-Net as published.

    Attributes:
        dims: Number of spatial axes.
        features: Channels of each level, finest first.
        norm: Norm between convolution and ReLU.
        patch: Shape of the network's input.
        learning_rate: Learning rate of SGD with momentum 0.99.
        paper: The publication.
        departures: What the template does otherwise, as Markdown.
    """

    dims: Literal[2, 3]
    features: tuple[int, ...]
    norm: Normalization
    patch: Shape
    learning_rate: float
    paper: str
    departures: str


_PADDED = """- Convolutions are padded, so that labels are as large as the image; the paper crops them.
- The loss is Dice and cross-entropy, all voxels alike; the paper weighs the cross-entropy{weights}.
- Augmentation is nnU-Net's, by MONAI's transforms{elastic}."""

TEMPLATES = {
    "unet_classic_2d": Template(
        dims=2,
        features=(64, 128, 256, 512, 1024),
        norm="none",
        patch=(512, 512),
        learning_rate=1e-3,
        paper='Ronneberger, Fischer, Brox. "U-Net: Convolutional Networks for Biomedical Image Segmentation." '
        "MICCAI 2015. https://arxiv.org/abs/1505.04597",
        departures=_PADDED.format(weights=" towards borders between cells", elastic="; the paper's is elastic"),
    ),
    "unet_classic_3d": Template(
        dims=3,
        features=(64, 128, 256, 512),
        norm="batch",
        patch=(128, 128, 112),
        learning_rate=1e-2,
        paper='Çiçek, Abdulkadir, Lienkamp, Brox, Ronneberger. "3D U-Net: Learning Dense Volumetric Segmentation from '
        'Sparse Annotation." MICCAI 2016. https://arxiv.org/abs/1606.06650',
        departures=_PADDED.format(weights=" by class", elastic="; the paper's is elastic")
        + "\n- Both convolutions of an encoder's level have its full width; in the paper the first has half of it.",
    ),
}


def definition(template: Template) -> Definition:
    """Define the network: one channel in, background and foreground out."""
    levels, dims = len(template.features), template.dims
    configuration = Configuration(
        spacing_mm=(1.0,) * dims,
        interpolation=("cubic",) * dims,
        median_shape=template.patch,
        patch_size=template.patch,
        batch_size=1,
        strides=((1,) * dims, *[(2,) * dims] * (levels - 1)),
        kernel_sizes=((3,) * dims,) * levels,
        features=template.features,
    )
    return classic_unet(configuration, 1, 2, template.features, norm=template.norm)


def spec(template: Template) -> ModelSpec:
    """Describe a model of the network."""
    optimizer = {"_target_": "torch.optim.SGD", "lr": template.learning_rate, "momentum": 0.99}
    return ModelSpec(
        spatial_dims=template.dims,
        channels=("image",),
        labels=(LabelClass(name="background", value=0), LabelClass(name="foreground", value=1)),
        preprocessing=Preprocessing(
            spacing_mm=(1.0,) * template.dims,
            interpolation=("cubic",) * template.dims,
            normalization=(ChannelNormalization(scheme="zscore"),),
        ),
        patch_size=template.patch,
        mirror_axes=tuple(range(template.dims)),
        recipe=TrainingRecipe(optimizer=optimizer, batch_size=1),
    )


def write(folder: Path, template: Template) -> None:
    """Write one template's files."""
    about = About(authors="the authors of unetpipe", copyright="Apache License 2.0", references=(template.paper,))
    configs = generated_configs(spec(template), [definition(template)], Release(), about)
    for name, content in configs.items():
        write_json(folder / "configs" / f"{name}.json", content)
    resources = files("unetpipe.bundle") / "resources"
    write_text(folder / "configs" / "logging.conf", (resources / "logging.conf").read_text(encoding="utf-8"))
    write_text(folder / "LICENSE", (resources / "LICENSE.txt").read_text(encoding="utf-8"))
    write_text(folder / "docs" / "README.md", _card(folder.name, template))


def _card(name: str, template: Template) -> str:
    return f"""# {name}

The U-Net as published, as a MONAI bundle without weights: a template for training with MONAI alone. Channels per level:
{", ".join(map(str, template.features))}.

    python -m monai.bundle run --config_file configs/train.json --dataset_dir DATA
    cp eval/model.pt models/model.pt
    python -m monai.bundle run --config_file configs/evaluate.json --dataset_dir DATA
    python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES --output_dir LABELS

DATA holds `imagesTr` and `labelsTr` with files of the same names; labels are 0 and 1. With more classes or channels, or
another voxel size, let unetpipe write the bundle for your dataset: `unetpipe preprocess`, then
`unetpipe train --network unet`.

It departs from the paper:

{template.departures}

Source: {template.paper}
"""


if __name__ == "__main__":
    for name, template in TEMPLATES.items():
        write(Path(__file__).parent / name, template)
