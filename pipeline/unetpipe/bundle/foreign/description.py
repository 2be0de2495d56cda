"""What is understood of a foreign bundle, in sentences for a person to check."""

from unetpipe.bundle.foreign.preprocessing import SPATIAL
from unetpipe.bundle.foreign.spec import ForeignSpec
from unetpipe.components import TARGET, target_of
from unetpipe.dataset.label_scheme import Region

_UNSAID = {TARGET, "keys", "source_key"}
_UNDONE = {
    "before": "preprocessing is undone: channels are interpolated linearly on the scan's grid",
    "after": "preprocessing is undone: labels go back to the scan's grid by nearest neighbours",
    "linearly": "preprocessing is undone: class numbers are interpolated linearly, as the bundle asks, and rounded",
}


def preprocessing_lines(spec: ForeignSpec) -> tuple[str, ...]:
    """One line for each transform of the image, in order, with its arguments."""
    return tuple(
        " ".join(
            [
                str(target_of(step)).rpartition(".")[2],
                *(f"{name}={value}" for name, value in step.items() if name not in _UNSAID),
            ]
        )
        for step in spec.transforms
    )


def windows_line(spec: ForeignSpec) -> str:
    """The sliding window in one line."""
    windows, blending = spec.windows, spec.windows.blending
    size = " x ".join(map(str, windows.patch_size))
    weights = "all voxels weigh the same"
    if blending.sigma_scale is not None:
        weights = f"Gaussian weights of sigma {blending.sigma_scale:g} x window"
    around = f"{blending.padding} padding" + (f" with {blending.fill:g}" if blending.padding == "constant" else "")
    slices = "" if windows.slice_axis is None else f", planes along axis {windows.slice_axis} one by one"
    return f"{size}, overlap {windows.overlap:g}, {weights}, {around}{slices}"


def readout_lines(spec: ForeignSpec) -> tuple[str, ...]:
    """One line for each thing that leads from logits to labels, in order."""
    readout = spec.readout
    lines: list[str] = [] if readout.activation == "none" else [readout.activation]
    if spec.regions:
        order = "; ".join(f"channel {channel} is {one.written}" for channel, one in _decisions(spec))
        decided = f"at least {readout.threshold:g}, the first that holds: {order}"
    else:
        decided = "the largest channel decides"
    moving = any(str(target_of(step)).rpartition(".")[2] in SPATIAL for step in spec.transforms)
    moved = [_UNDONE[readout.undone]] if moving else []
    first = [f"only the largest component is kept of {_names(spec, readout.largest_first)}"]
    first = first if readout.largest_first else []
    lines += [*moved, decided] if readout.undone == "before" else [decided, *first, *moved]
    if spec.postprocessing:
        lines.append(f"only the largest component is kept of {', '.join(spec.postprocessing)}")
    return tuple(lines)


def _decisions(spec: ForeignSpec) -> list[tuple[int, Region]]:
    """Channel and region of each decision, the first one that holds counts."""
    return list(reversed(list(zip(spec.readout.channels, spec.regions, strict=True))))


def _names(spec: ForeignSpec, indices: tuple[int, ...]) -> str:
    return ", ".join(spec.labels[index].name for index in indices)
