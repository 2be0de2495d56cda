"""What to do about a dataset: `plan.yaml`, commented and meant to be edited."""

from typing import Final, Literal

from unetpipe.dataset.manifest import Model
from unetpipe.imaging.geometry import Shape, Spacing
from unetpipe.imaging.preprocessing import ChannelNormalization, Interpolation, Preprocessing

PLAN_SCHEMA: Final = 1


class Configuration(Model):
    """One resolution and the network that suits it.

    Attributes:
        spacing_mm: Target voxel size.
        interpolation: Of images, per axis.
        median_shape: Of the dataset's images after resampling.
        patch_size, batch_size: What the network trains on.
        strides: Per stage and axis; the first stage's are 1.
        kernel_sizes: Per stage and axis.
        features: Channels per stage.
        convs_per_stage: 2 as published.
    """

    spacing_mm: Spacing
    interpolation: tuple[Interpolation, ...]
    median_shape: Shape
    patch_size: Shape
    batch_size: int
    strides: tuple[Shape, ...]
    kernel_sizes: tuple[Shape, ...]
    features: tuple[int, ...]
    convs_per_stage: int = 2

    @property
    def spatial_dims(self) -> int:
        return len(self.patch_size)


class Plan(Model):
    """All configurations, and which one is used unless told otherwise (``3d_fullres``; ``2d`` for 2-D data)."""

    schema_version: Literal[1] = PLAN_SCHEMA
    default: str
    normalization: tuple[ChannelNormalization, ...]
    configurations: dict[str, Configuration]

    def preprocessing(self, configuration: str) -> Preprocessing:
        """What images of this configuration go through."""
        chosen = self.configurations[configuration]
        return Preprocessing(
            spacing_mm=chosen.spacing_mm, interpolation=chosen.interpolation, normalization=self.normalization
        )
