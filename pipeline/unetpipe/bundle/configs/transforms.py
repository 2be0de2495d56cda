"""The transforms that all configs of a bundle share: an image to the network's input, and logits to labels.

Keys of a case while it passes through them: ``scan`` is the oriented and cropped image, to whose file the labels go
back; ``image`` is the network's input; ``label`` the reference; ``pred`` what the network finds.
"""

from typing import Any

from unetpipe.bundle.spec import ModelSpec
from unetpipe.imaging.preprocessing import ANISOTROPY, NORMALIZE, ChannelNormalization
from unetpipe.imaging.steps import portable_definition
from unetpipe.networks.build import output_channels

Config = dict[str, Any]

_ORDER = {"cubic": 3, "linear": 1, "nearest": 0}

# Same extent, new shape: edges stay where they are, as in imaging/interpolation.py. `mode` is scipy's spline order.
# A lambda, because MONAI's Spacing keeps the spacing instead of the extent.
_RESIZE = (
    "$lambda x, shape, mode: monai.transforms.SpatialResample("
    "mode=mode, padding_mode='nearest', align_corners=False, dtype=torch.float64)("
    "x, spatial_size=[int(n) for n in shape], dst_affine=torch.matmul(x.affine, @edges(x.shape[1:], shape)))"
)
_EDGES = (
    "$lambda old, new: torch.tensor("
    "[[o / n if i == j else 0.0 for j in range(len(old))] + [0.0] * (3 - len(old)) + [0.5 * o / n - 0.5]"
    " for i, (o, n) in enumerate(zip(old, new))]"
    " + [[0.0] * i + [1.0] + [0.0] * (3 - i) for i in range(len(old), 4)], dtype=torch.float64)"
)
_LABEL_LIKE_IMAGE = "$lambda d: {**d, 'label': @resize(d['label'], d['image'].shape[1:], 0)}"
# The one axis whose voxels are much longer than the shortest, in the image or else at the voxel size wanted.
_COARSEST = (
    "$lambda sizes, wanted, ratio: next((None if s.count(max(s)) > 1 else s.index(max(s))"
    " for s in ([round(float(n), 5) for n in sizes], wanted) if max(s) / min(s) > ratio), None)"
)
_MASK = "monai.transforms.FillHoles(connectivity=1)((x != 0).any(0, keepdim=True).float()) > 0"
RESIZING: Config = {"edges": _EDGES, "resize": _RESIZE, "coarsest": _COARSEST}
"""Top-level entries that the transforms refer to."""


def compose(*transforms: Config | str) -> Config:
    """Define a ``monai.transforms.Compose``."""
    return {"_target_": "monai.transforms.Compose", "transforms": list(transforms)}


def transform(name: str, keys: str | list[str], **arguments: Any) -> Config:
    """Define one of MONAI's dictionary transforms."""
    return {"_target_": f"monai.transforms.{name}", "keys": keys, **arguments}


def preprocessing(spec: ModelSpec, *, labelled: bool = False) -> list[Config | str]:
    """Define the transforms from a file to the network's input, ``image``.

    Args:
        spec: The model.
        labelled: Bring ``label`` to the network's grid too, as class indices, by nearest neighbours.
    """
    keys = ["scan", *(["first"] if spec.first_stage else []), *(["label"] if labelled else [])]
    return [
        transform("LoadImaged", keys, image_only=True, ensure_channel_first=True),
        *([transform("Orientationd", keys, axcodes="RAS")] if spec.preprocessing.turns_axes else []),
        transform("CropForegroundd", keys, source_key="scan", select_fn="$lambda x: x != 0", allow_smaller=True),
        transform("CopyItemsd", "scan", names="image"),
        *_steps(spec, keys),
        transform("Lambdad", "image", func=_resample_expression(spec)),
        *([_first_stage_expression(spec)] if spec.first_stage else ()),
        *([_LABEL_LIKE_IMAGE, class_indices(spec)] if labelled else ()),
    ]


def cases(spec: ModelSpec, data: str) -> Config:
    """Define ``data``, and for a cascade ``first_stage_dir``: labels of the first stage under the names of the images.

    Args:
        spec: The model.
        data: Expression of the cases without these labels.
    """
    if spec.first_stage is None:
        return {"data": data}
    name = "(d['scan'] if isinstance(d['scan'], str) else d['scan'][0]).rsplit('/', 1)[-1]"
    return {
        "first_stage_dir": "$@bundle_root + '/first_stage'",
        "cases": data,
        "data": f"$[{{**d, 'first': @first_stage_dir + '/' + {name}}} for d in @cases]",
    }


def _first_stage_expression(spec: ModelSpec) -> str:
    """Put the first stage's labels, resized class by class, behind the channels of the image, a channel for each."""
    masks = f"torch.cat([(d['first'].round() == v).float() for v in {[label.value for label in spec.labels]}])"
    resized = _nested(_resizes(spec, labels=True), "m", "d['image'].shape[1:]")
    joined = f"torch.cat([d['image'], *((c == i).to(d['image']) for i in range(1, {len(spec.labels)}))])"
    return f"$lambda d: (lambda m: (lambda c: {{**d, 'image': {joined}}})({resized}.argmax(0, keepdim=True)))({masks})"


def class_indices(spec: ModelSpec) -> Config:
    """Define the transform of ``label`` from values to class indices: -1 where ignored, 0 for values of no class."""
    index = {label.value: number for number, label in enumerate(spec.labels)}
    if not spec.merged and spec.ignore_value is None:
        return transform(
            "Lambdad", "label", func=f"$lambda x: sum(i * (x.round() == v) for i, v in enumerate({[*index]}))"
        )
    index |= {} if spec.ignore_value is None else {spec.ignore_value: -1}
    ranges: dict[int, list[tuple[int, int]]] = {number: [] for number in index.values() if number}
    for value, number in index.items():
        if number:
            ranges[number] += [(value, value), *((one.low, one.high) for one in spec.merged if one.value == value)]
    inside = "sum((x.round() >= a) & (x.round() <= b) for a, b in r) > 0"  # ranges of one class may overlap
    return transform("Lambdad", "label", func=f"$lambda x: sum(i * ({inside}) for i, r in {[*ranges.items()]})")


def decision(spec: ModelSpec, network_def: Config) -> Config:
    """Define the transform that decides the class index of each voxel from its logits."""
    if spec.label_scheme.overlapping:  # each region over those before it
        chosen = "0 * x[:1]"
        for region, index in enumerate(spec.label_scheme.decoded_indices[1:]):
            chosen = f"torch.where(x[{region}:{region + 1}] > 0, {float(index)}, {chosen})"
        return transform("Lambdad", "pred", func=f"$lambda x: {chosen}")
    if output_channels(network_def) == 1:
        return transform("AsDiscreted", "pred", threshold=0.0)
    return transform("AsDiscreted", "pred", argmax=True)


def restoration(spec: ModelSpec, network_def: Config) -> list[Config | str]:
    """Define the transforms from logits on the network's grid to class indices on the file's grid."""
    return [
        _restore_expression(spec),
        decision(spec, network_def),
        transform("Invertd", "pred", orig_keys="scan", transform="@preprocessing", nearest_interp=True, to_tensor=True),
        *(
            transform("KeepLargestConnectedComponentd", "pred", applied_labels=index, is_onehot=False)
            for index, label in enumerate(spec.labels)
            if label.name in spec.postprocessing
        ),
    ]


def without_ignored(spec: ModelSpec) -> list[str]:
    """Let nothing be found where the reference is to be ignored, so that neither of them has a structure there."""
    return [] if spec.ignore_value is None else ["$lambda d: {**d, 'pred': d['pred'] * (d['label'] >= 0)}"]


def structures(spec: ModelSpec, keys: list[str]) -> Config:
    """Define the transform from class indices to one channel for each structure to be found: 1 where it is, else 0."""
    members = spec.label_scheme.class_indices
    channels = ", ".join("(" + " | ".join(f"(x == {index})" for index in indices) + ")" for indices in members)
    return transform("Lambdad", keys, func=f"$lambda x: torch.cat([{channels}]).float()")


def _steps(spec: ModelSpec, keys: list[str]) -> list[Config]:
    """The steps, in their order: on the image, and where they move voxels on the scan too, which undoes them later."""
    steps: list[Config] = []
    for step in spec.preprocessing.steps:
        if step == NORMALIZE:
            steps += _normalization(spec.preprocessing.normalization)
        else:
            steps.append(portable_definition(step, ("image", *keys)))
    return steps


def _normalization(channels: tuple[ChannelNormalization, ...]) -> list[Config]:
    schemes = {channel.scheme for channel in channels}
    if schemes <= {"zscore"} or schemes <= {"zscore_nonzero"}:
        return [transform("NormalizeIntensityd", "image", channel_wise=True, nonzero=schemes == {"zscore_nonzero"})]
    per_channel = ", ".join(_channel_expression(index, channel) for index, channel in enumerate(channels))
    return [transform("Lambdad", "image", func=f"$lambda x: torch.cat([{per_channel}])")]


def _channel_expression(index: int, channel: ChannelNormalization) -> str:
    data = f"x[{index}:{index + 1}]"
    if channel.scheme == "ct":
        return f"({data}.clamp({channel.lower}, {channel.upper}) - {channel.mean}) / {channel.std}"
    if channel.scheme == "none":
        return data
    if channel.scheme == "minmax":
        return f"monai.transforms.ScaleIntensity(0.0, 1.0)({data})"
    if channel.scheme == "zscore_mask":
        return f"(lambda v, m: (v - v[m].mean()) / v[m].std(correction=0).clamp_min(1e-8) * m)({data}, {_MASK})"
    return f"monai.transforms.NormalizeIntensity(nonzero={channel.scheme == 'zscore_nonzero'})({data})"


def _resizes(spec: ModelSpec, *, labels: bool) -> list[tuple[list[int], int]]:
    """Group axes by their interpolation, as spline orders; logits go linearly where images go cubically."""
    orders = [min(_ORDER[kind], 1) if labels else _ORDER[kind] for kind in spec.preprocessing.interpolation]
    return [([axis for axis, o in enumerate(orders) if o == order], order) for order in sorted(set(orders))]


def _resample_expression(spec: ModelSpec) -> str:
    """Resize a cropped image to the network's grid: once per interpolation, over the axes that use it."""
    spacing = ", ".join(repr(float(s)) for s in spec.preprocessing.spacing_mm)
    sizes = f"zip(x.shape[1:], x.pixdim.tolist(), ({spacing},))"
    shape = f"[max(1, round(round(float(n * s / t), 3))) for n, s, t in {sizes}]"
    resized = _separated(spec, 3, "x", "shape", "x") or _nested(_resizes(spec, labels=False), "x", "shape")
    return f"$lambda x: (lambda shape: {resized})({shape})"


def _separated(spec: ModelSpec, order: int, image: str, shape: str, scan: str) -> str | None:
    """Resize an image along all axes but the coarsest, and then along that one; None where axes are fixed."""
    wanted = [float(mm) for mm in spec.preprocessing.spacing_mm]
    if spec.preprocessing.resampling != "nnunet":
        return None
    axis = f"@coarsest({scan}.pixdim.tolist(), {wanted}, {ANISOTROPY})"
    kept = f"[{image}.shape[1 + a] if a == c else n for a, n in enumerate({shape})]"
    resized = f"@resize({image}, {kept}, {order})"
    if order > 1:  # which overshoots
        others = f"[1 + a for a in range({len(wanted)}) if a != c]"
        low, high = (f"{image}.{extreme}({others}, keepdim=True)" for extreme in ("amin", "amax"))
        resized += f".clamp(min={low}, max={high})"
    return f"(lambda c: @resize({resized}, {shape}, 0))({axis})"


def _nested(steps: list[tuple[list[int], int]], image: str, shape: str) -> str:
    expression = image
    done: list[int] = []
    for axes, order in steps:
        done += axes
        chosen = f"[{shape}[a] if a in {sorted(done)} else {image}.shape[1 + a] for a in range(len({shape}))]"
        expression = f"@resize({expression}, {chosen}, {order})"
    return expression


def _restore_expression(spec: ModelSpec) -> str:
    """Resize logits from the network's grid to that of the cropped image."""
    image, shape = "d['pred']", "d['scan'].shape[1:]"
    nested = _separated(spec, 1, image, shape, "d['scan']") or _nested(_resizes(spec, labels=True), image, shape)
    return f"$lambda d: {{**d, 'pred': {nested}}}"
