"""The preprocessing of a foreign bundle as a plan has it, for fine-tuning.

A plan crops to what is not 0, keeps the extent, and changes intensities before it resamples, where the bundles of the
Model Zoo resample first. The network meets images that differ by fractions of a voxel from those it knows, which
training makes up for.
"""

from typing import Any

from unetpipe.bundle.foreign.preprocessing import INTENSITIES
from unetpipe.bundle.foreign.read import ForeignBundle
from unetpipe.components import target_of
from unetpipe.errors import BundleError
from unetpipe.imaging.preprocessing import ChannelNormalization, Interpolation, Preprocessing
from unetpipe.imaging.transform_chain import SPACING

_MODULE = "monai.transforms."


def adopted_preprocessing(bundle: ForeignBundle) -> Preprocessing:
    """Express a bundle's preprocessing as a plan's.

    Raises:
        BundleError: If it does not turn images to RAS+, or does not say a voxel size for each axis.
    """
    steps = {str(target_of(step)): step for step in bundle.spec.transforms}
    turned = steps.get(_MODULE + "Orientationd", {}).get("axcodes")
    if turned != "RAS":
        raise BundleError(
            f"{bundle.name}: its images are turned to {turned}, and not to RAS: it cannot be trained on here"
        )
    spacing, dims = steps.get(SPACING, {}), bundle.spec.spatial_dims
    pixdim: Any = spacing.get("pixdim")
    sizes = tuple(pixdim) if isinstance(pixdim, list) else (pixdim,) * dims
    if len(sizes) != dims or None in sizes:
        raise BundleError(f"{bundle.name}: it does not say a voxel size for each axis: it cannot be trained on here")
    kind: Interpolation = "nearest" if spacing.get("mode") == "nearest" else "linear"
    return Preprocessing(
        spacing_mm=tuple(float(mm) for mm in sizes),
        interpolation=(kind,) * dims,
        normalization=(ChannelNormalization(scheme="zscore"),) * len(bundle.spec.channels),
        steps=tuple(
            {key: value for key, value in step.items() if key != "keys"}
            for step in bundle.spec.transforms
            if str(target_of(step)).removeprefix(_MODULE) in INTENSITIES
        ),
    )
