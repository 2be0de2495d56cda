"""`preprocessing.json`: what must be done to an image before an exported network and to its logits after it.

In words for a person and numbers for a program, so that whoever has the network alone can write the rest.
"""

from typing import Any

from unetpipe.bundle.spec import ModelSpec
from unetpipe.imaging.preprocessing import NORMALIZE, ChannelNormalization, Step
from unetpipe.inference.sliding_window import STEP
from unetpipe.networks.build import output_channels
from unetpipe.networks.exported import INPUT, OUTPUT

_SCHEMES = {
    "zscore": "Subtract the mean of the channel's voxels and divide by their standard deviation (of the population).",
    "zscore_nonzero": "The same over the voxels that are not 0; those that are 0 stay 0.",
    "zscore_mask": "The same over the voxels that are not 0 in any channel, holes included; all others become 0.",
    "minmax": "Subtract the smallest value and divide by the range of the cropped image.",
    "none": "Leave the values as they are.",
    "ct": "Clip to [lower, upper], subtract mean and divide by std.",
}


def preprocessing_document(spec: ModelSpec, network_def: dict[str, Any]) -> dict[str, Any]:
    """The content of the file.

    Args:
        spec: The model.
        network_def: Its MONAI config.
    """
    interpolation = list(spec.preprocessing.interpolation)
    return {
        "schema_version": 1,
        "axes": "Arrays are (channels, I, J, K), or (channels, I, J) of pictures; voxel i has its centre at i.",
        "before": [
            *([{"step": "orient", "axes": "RAS", "words": _ORIENT}] if spec.preprocessing.turns_axes else []),
            {"step": "crop", "words": "Keep the smallest box that holds every voxel that is not 0 in any channel."},
            *(_step(step, spec) for step in spec.preprocessing.steps),
            {
                "step": "resample",
                "spacing_mm": list(spec.preprocessing.spacing_mm),
                "interpolation": interpolation,
                **_separation(spec),
                "words": _RESAMPLE,
            },
        ],
        "network": {
            "input": INPUT,
            "output": OUTPUT,
            "channels": list(spec.channels),
            "patch": list(spec.patch_size),
            "overlap": 1 - STEP,
            **_windows(spec),
        },
        "after": [
            {
                "step": "resample",
                "interpolation": ["linear" if kind == "cubic" else kind for kind in interpolation],
                "words": "Resample the logits to the shape of the crop, along each axis as stated.",
            },
            _decision(spec, network_def),
            {"step": "restore", "words": "Put the labels into the crop's box, 0 around it, and undo the orientation."},
            *(
                {"step": "largest_component", "label": name, "words": "Keep its largest connected component."}
                for name in spec.postprocessing
            ),
            {"step": "values", "labels": [label.model_dump() for label in spec.labels], "words": _VALUES},
        ],
    }


_ORIENT = "Permute and flip the axes, so that they run closest to the patient's right, anterior and superior."
_RESAMPLE = (
    "Resample to max(1, round(round(n * spacing / spacing_mm, 3))) voxels along each axis, where round takes "
    "halves to the even number. The outer edges stay where they are: of m new voxels of an axis of n, the i-th lies at "
    "(i + 0.5) * n / m - 0.5. Beyond the outermost centres the edge value continues. 'cubic' is the interpolating "
    "cubic B-spline."
)
_SEPARATION = (
    "Where the largest voxel size of the image, or else of spacing_mm, is more than three times the smallest, the axis "
    "of the largest goes by nearest neighbours. Values beyond those of the image, or then of the slice, are set to its "
    "smallest or largest."
)
_WINDOWS = (
    "Pad with 0 on both sides to at least the patch. Run windows of the patch's size that follow each other by half of "
    "it, the last one at the end. "
)
_GAUSSIAN = (
    "Multiply each one's logits by a Gaussian around its centre (sigma in voxels, never below 0.001), add them up and "
    "divide by the sum of the Gaussians."
)
_EVEN_WINDOWS = (
    "Pad with 0 on both sides to at least the patch p. Along an axis of n voxels run c + 1 windows, c = ceil((n - p) "
    "/ (p / 2)), that start at round((n - p) / c * i). "
)
_EVEN_GAUSSIAN = (
    "Multiply each one's logits by a Gaussian around voxel p // 2 that is 0 beyond int(4 * sigma + 0.5) voxels, zeros "
    "replaced by its smallest positive value, add them up and divide by the sum of the Gaussians."
)
_UNWEIGHTED = "Add their logits up and divide by the number of windows that hold a voxel."
_VALUES = "Replace the index of each class by its value; the index is its place in this list."


def _windows(spec: ModelSpec) -> dict[str, Any]:
    """Where windows lie, and how their logits are averaged."""
    scale, even = spec.blending.sigma_scale, spec.blending.convention == "nnunet"
    gaussian = _EVEN_GAUSSIAN if even else _GAUSSIAN
    return {
        "sigma": None if scale is None else [size * scale for size in spec.patch_size],
        "windows": spec.blending.convention,
        "words": (_EVEN_WINDOWS if even else _WINDOWS) + (_UNWEIGHTED if scale is None else gaussian),
    }


def _separation(spec: ModelSpec) -> dict[str, Any]:
    """The rule by which an axis is interpolated by nearest neighbours image by image, where there is one."""
    return {"separation": _SEPARATION} if spec.preprocessing.resampling == "nnunet" else {}


def _step(step: Step, spec: ModelSpec) -> dict[str, Any]:
    if step != NORMALIZE:
        return {"step": "transform", "definition": step, "words": "Apply this transform of MONAI's."}
    return {"step": NORMALIZE, "channels": [_channel(one) for one in spec.preprocessing.normalization]}


def _channel(channel: ChannelNormalization) -> dict[str, Any]:
    return {**channel.model_dump(exclude_none=True), "words": _SCHEMES[channel.scheme]}


def _decision(spec: ModelSpec, network_def: dict[str, Any]) -> dict[str, Any]:
    if spec.label_scheme.overlapping:
        words = "Each channel is a region, found where its logit is above 0; later ones replace earlier ones."
        indices = list(spec.label_scheme.decoded_indices[1:])
        return {"step": "decide", "rule": "regions", "indices": indices, "words": words}
    if output_channels(network_def) == 1:
        return {"step": "decide", "rule": "threshold", "words": "Class 1 where the logit is above 0, else class 0."}
    return {"step": "decide", "rule": "argmax", "words": "The class whose logit is largest."}
