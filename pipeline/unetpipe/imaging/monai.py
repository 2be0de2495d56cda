"""This package's reading and preprocessing as parts of MONAI pipelines.

Each part can be used by itself in a stock ``monai.transforms.Compose``, and what moves voxels can be undone by
``Invertd``. Together, after ``LoadImaged(reader=VolumeReader, ensure_channel_first=True)`` and
``Orientationd(axcodes="RAS")``, they do what `unetpipe preprocess` and `unetpipe infer` do:

    CropNonzerod(["image", "label"], "image")
    Normalized("image", preprocessing.normalization)
    Resampled(["image", "label"], preprocessing.spacing_mm, preprocessing.interpolation, label_keys=["label"])

or all three at once, `Preprocessd`. The package itself works on plain tensors with a `Grid` and needs none of this.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import CropForegroundd, InvertibleTransform, MapTransform
from monai.utils import MetaKeys, SpaceKeys, TraceKeys
from numpy.typing import NDArray
from torch import Tensor

from unetpipe.errors import GeometryError, counted
from unetpipe.imaging.alignment import GRID_TOLERANCE, aligned_channels, describe_difference, same_voxels
from unetpipe.imaging.files import is_image, read_volume
from unetpipe.imaging.geometry import Grid, Shape, Spacing, orientation_to_ras, resampled_shape
from unetpipe.imaging.image import Image
from unetpipe.imaging.network_input import CroppedImage, NetworkImage
from unetpipe.imaging.normalization import normalize_image
from unetpipe.imaging.preprocessing import ChannelNormalization, Interpolation, Placement, Preprocessing
from unetpipe.imaging.resample import resample
from unetpipe.imaging.resample_label import resample_label
from unetpipe.imaging.volume import Volume

Data = Mapping[Hashable, Any]


class VolumeReader(ImageReader):  # type: ignore[misc]  # monai carries no types
    """Lets MONAI's ``LoadImage(reader=VolumeReader)`` read every format of the package, DICOM folders too.

    The channel comes first already. Affine and space are set together (RAS+, mm), so that ``Orientation`` works.

    Args:
        as_label: Files are read as label maps: a picture gives the indices of its colour table instead of its colours,
            layers of a segmentation become one map, and compression with loss is refused.
    """

    def __init__(self, *, as_label: bool = False) -> None:
        self._as_label = as_label

    def verify_suffix(self, filename: Any) -> bool:
        """Whether all of the given paths are images or DICOM folders."""
        return all(is_image(path) for path in _paths(filename))

    def read(self, data: Any, **kwargs: Any) -> list[Volume]:  # noqa: ARG002 - MONAI's signature
        """Read one file, or several as channels of one image."""
        return [read_volume(path, as_label=self._as_label) for path in _paths(data)]

    def get_data(self, img: list[Volume]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Channels concatenated in the first file's axis order, and the metadata that `MetaTensor` needs.

        Raises:
            GeometryError: If a file does not hold the voxels of the first.
        """
        img = aligned_channels(img)
        grid = img[0].grid
        meta = {
            MetaKeys.AFFINE: grid.matrix.copy(),
            MetaKeys.ORIGINAL_AFFINE: grid.matrix.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(grid.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        }
        return np.concatenate([volume.array for volume in img]), meta


class CropNonzerod(CropForegroundd):  # type: ignore[misc]  # monai carries no types
    """Crop to the box around the voxels of an image that differ from 0 in any channel.

    Args:
        keys: Keys of the images to crop.
        source_key: The image that decides the box; one that is 0 everywhere is kept whole.
        allow_missing_keys: Whether absent keys are skipped, as in MONAI's `MapTransform`.
    """

    def __init__(self, keys: KeysCollection, source_key: str, allow_missing_keys: bool = False) -> None:
        super().__init__(
            keys, source_key, select_fn=_nonzero, allow_smaller=True, allow_missing_keys=allow_missing_keys
        )


class Normalized(MapTransform):  # type: ignore[misc]  # monai carries no types
    """Normalise the intensities of images, channel by channel.

    Args:
        keys: Keys of images (C, *spatial); float32 afterwards.
        normalization: Normalisation of each channel.
        allow_missing_keys: Whether absent keys are skipped, as in MONAI's `MapTransform`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        normalization: Sequence[ChannelNormalization],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.normalization = tuple(normalization)

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Normalise every key.

        Raises:
            GeometryError: If an image has another number of channels.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            if len(image) != len(self.normalization):
                raise GeometryError(f"expected {counted(len(self.normalization), 'channel')}, got {len(image)}")
            result[key] = _like(image, normalize_image(image.as_subclass(Tensor), self.normalization))
        return result


class Resampled(MapTransform, InvertibleTransform):  # type: ignore[misc]  # monai carries no types
    """Resample `MetaTensor`s to a voxel size over the same extent; their affines follow.

    MONAI's ``Spacing`` keeps the voxel size exact and rounds the extent. Here the extent is exact and the voxel size
    follows, so that the edges of image, label and logits stay on each other.

    Args:
        keys: Keys of images, float32 (C, I, J[, K]) afterwards.
        spacing_mm: Target voxel size along each axis.
        interpolation: Interpolation along each axis. The inverse goes linearly where images went cubically.
        label_keys: Members of `keys` that hold label maps (1, I, J[, K]), which are resampled class by class.
        allow_missing_keys: Whether absent keys are skipped, as in MONAI's `MapTransform`.

    Raises:
        GeometryError: If an interpolation is none of cubic, linear and nearest.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing_mm: Spacing,
        interpolation: Sequence[Interpolation],
        label_keys: Sequence[str] = (),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if unknown := [kind for kind in interpolation if kind not in get_args(Interpolation)]:
            raise GeometryError(f"interpolation is one of {', '.join(get_args(Interpolation))}, got {unknown[0]!r}")
        self.spacing_mm = tuple(spacing_mm)
        self.interpolation = tuple(interpolation)
        self.label_keys = frozenset(label_keys)

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Resample every key.

        Raises:
            GeometryError: If a label map has several channels.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            volume, grid = result[key], _grid(result[key])
            shape = resampled_shape(grid.shape, grid.spacing_mm, self.spacing_mm)
            if key in self.label_keys:
                _require_one_channel(key, volume)
                values = resample_label(volume, shape, self.interpolation)
            else:
                values = resample(volume, shape, self.interpolation)
            resampled = _like(volume, values, grid.resized(shape))
            result[key] = self.push_transform(
                resampled, orig_size=grid.shape, extra_info={"mode": "bilinear", "affine": volume.affine}
            )
        return result

    def inverse(self, data: Data) -> dict[Hashable, Any]:
        """Take every key back to the grid that it came from."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = result[key]
            info = self.pop_transform(volume)
            shape, extra = tuple(info[TraceKeys.ORIG_SIZE]), info[TraceKeys.EXTRA_INFO]
            values = _back(volume, shape, self.interpolation, nearest=extra["mode"] == "nearest")
            result[key] = _like(volume, values, Grid.of(shape, np.asarray(extra["affine"])))
        return result


class Preprocessd(MapTransform, InvertibleTransform):  # type: ignore[misc]  # monai carries no types
    """All that `unetpipe preprocess` and `unetpipe infer` do to an oriented image, and to its label maps.

    Nearly all models take images in RAS+ order, so that ``Orientationd(axcodes="RAS")`` comes first. Where
    ``preprocessing.orientation`` is ``stored``, as in models of nnU-Net, it has to be left out.

    ``Invertd`` undoes it for what a network made of the image: logits linearly (``nearest_interp=False``), label maps
    by nearest neighbours. What lies outside of the crop becomes 0.

    Args:
        image_key: A `MetaTensor` (C, I, J[, K]) in the order of the preprocessing; float32 (C, *network) afterwards.
        preprocessing: Preprocessing to apply, such as a bundle's ``spec.preprocessing``.
        label_keys: Label maps (1, I, J[, K]) on the image's grid.
        allow_missing_keys: Whether absent keys are skipped, as in MONAI's `MapTransform`.
    """

    def __init__(
        self,
        image_key: str,
        preprocessing: Preprocessing,
        label_keys: Sequence[str] = (),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__((image_key, *label_keys), allow_missing_keys)
        self.image_key = image_key
        self.preprocessing = preprocessing

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        """Preprocess the image and the label maps.

        Raises:
            GeometryError: If the image is not in the order of the preprocessing, its channels or axes are not the
                preprocessing's, or a label map is not on its grid or has several channels.
        """
        result = dict(data)
        image = result[self.image_key]
        grid = _grid(image)
        if self.preprocessing.orientation == "RAS" and grid.canonical() != grid:
            raise GeometryError("the image is not in RAS+ order: Orientationd(axcodes='RAS') has to come first")
        if self.preprocessing.orientation == "stored" and _was_turned(image):
            raise GeometryError("the model takes images in the order of their files: leave Orientationd out")
        cropped = CroppedImage(Image.of(image.as_subclass(Tensor).cpu().numpy(), grid), self.preprocessing)
        placement = cropped.placement
        values = {self.image_key: torch.stack(list(cropped.channels()))}
        for key in self.key_iterator(result):
            volume = result[key]
            if key != self.image_key:
                _require_one_channel(key, volume)
                if grid.difference_voxels(own := _grid(volume)) > GRID_TOLERANCE:
                    turned = same_voxels(grid, own)
                    reason = "its axes run otherwise than the image's" if turned else describe_difference(grid, own)
                    raise GeometryError(f"{key}: {reason}")
                values[key] = cropped.label(volume.as_subclass(Tensor)[0][placement.box].contiguous())[None]
            made = _like(volume, values[key], cropped.grid)
            extra = {"mode": "bilinear", "affine": volume.affine, "placement": placement, "applied": cropped.applied}
            result[key] = self.push_transform(made, orig_size=grid.shape, extra_info=extra)
        return result

    def inverse(self, data: Data) -> dict[Hashable, Any]:
        """Take every key back to the grid that the image came from."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = result[key]
            info = self.pop_transform(volume)
            shape, extra = tuple(info[TraceKeys.ORIG_SIZE]), info[TraceKeys.EXTRA_INFO]
            placement, nearest = Placement.model_validate(extra["placement"]), extra["mode"] == "nearest"
            kinds = self.preprocessing.interpolation_of(placement.spacing_mm)
            found = _back(volume, placement.before_resampling, kinds, nearest=nearest)
            image = NetworkImage(found, placement, self.preprocessing.steps, extra["applied"])
            values = torch.from_numpy(image.restore(found))
            result[key] = _like(volume, values, Grid.of(shape, np.asarray(extra["affine"])))
        return result


def _paths(filename: Any) -> list[Path]:
    return [Path(filename)] if isinstance(filename, str | Path) else [Path(name) for name in filename]


def _require_one_channel(key: Hashable, label: MetaTensor) -> None:
    """Refuse one-hot classes, of which only the first would be taken."""
    if len(label) != 1:
        raise GeometryError(f"{key}: expected a label map of one channel, got {len(label)}")


def _nonzero(values: Tensor) -> Tensor:
    """Voxels that are not 0, or all of them where there are none."""
    found = values != 0
    return found if found.any() else torch.ones_like(found)


def _grid(volume: MetaTensor) -> Grid:
    return Grid.of(volume.shape[1:], np.asarray(to_affine_nd(3, volume.affine), dtype=np.float64))


def _was_turned(volume: MetaTensor) -> bool:
    """Whether the axes run otherwise than in the file, as far as the reader has noted how they do there."""
    affine = volume.meta.get(MetaKeys.ORIGINAL_AFFINE)
    if affine is None:
        return False
    stored = Grid.of(volume.shape[1:], np.asarray(to_affine_nd(3, affine), dtype=np.float64))
    return orientation_to_ras(stored) != orientation_to_ras(_grid(volume))


def _like(volume: MetaTensor, values: Tensor, grid: Grid | None = None) -> MetaTensor:
    """Values with a volume's metadata and trace, on another grid where one is given."""
    result = MetaTensor(values).copy_meta_from(volume)
    if grid is not None:
        result.affine = torch.from_numpy(grid.matrix)
    return result


def _back(volume: MetaTensor, shape: Shape, interpolation: Sequence[Interpolation], *, nearest: bool) -> Tensor:
    """Resample (C, *spatial) as logits are: linearly where images go cubically; or by nearest neighbours."""
    kinds: list[Interpolation] = ["nearest" if nearest or kind == "nearest" else "linear" for kind in interpolation]
    return resample(volume, shape, kinds).to(volume.dtype)
