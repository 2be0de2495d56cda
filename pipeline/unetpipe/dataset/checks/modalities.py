"""The modality of each channel: as declared, as its name says, or as the headers of all cases agree."""

from collections import Counter
from collections.abc import Sequence

from unetpipe.dataset.checks.hounsfield import resembles_hounsfield
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.modality import CT, modality_code
from unetpipe.errors import Fault, counted


def declared_modalities(manifest: Manifest) -> tuple[str | None, ...]:
    """Modality of each channel as declared, or as the channel's name says; None if neither."""
    declared = manifest.modalities or (None,) * len(manifest.channels)
    return tuple(modality or modality_code(name) for modality, name in zip(declared, manifest.channels, strict=True))


def agreed_modalities(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> tuple[str | None, ...]:
    """Modality of each channel as declared, or else as the headers of all cases agree; None if neither."""
    agreed = []
    for channel, declared in enumerate(declared_modalities(manifest)):
        found = _in_headers(statistics, channel)
        agreed.append(declared or (next(iter(found)) if len(found) == 1 and None not in found else None))
    return tuple(agreed)


def check_modalities(manifest: Manifest, statistics: Sequence[CaseStatistics]) -> list[Fault]:
    """Warn of headers that contradict each other or the declaration, and of CT that nothing declares."""
    faults = []
    declared, agreed = declared_modalities(manifest), agreed_modalities(manifest, statistics)
    for channel, name in enumerate(manifest.channels):
        found = _in_headers(statistics, channel)
        named = {modality: count for modality, count in found.items() if modality is not None}
        listed = ", ".join(f"{modality} in {counted(count, 'case')}" for modality, count in sorted(named.items()))
        if declared[channel] is not None and set(named) - {declared[channel]}:
            message = f"channel {name} counts as {declared[channel]}, but the headers say {listed}"
            faults.append(Fault.warning("modality_differs", f"{message}; --modality decides"))
        elif declared[channel] is None and len(named) > 1:
            message = f"channel {name} is {listed}: each image is normalised by itself"
            faults.append(Fault.warning("mixed_modalities", f"{message}, unless --modality says otherwise"))
        elif agreed[channel] is None and statistics and _looks_like_ct(statistics, channel):
            faults.append(
                Fault.warning(
                    "undeclared_ct",
                    f"the intensities of channel {name} look like Hounsfield units, but nothing says that it is CT, so "
                    f"each image is normalised by itself; --modality {CT} normalises all by one scale"
                    + (", one --modality per channel" if len(manifest.channels) > 1 else ""),
                )
            )
    return faults


def _in_headers(statistics: Sequence[CaseStatistics], channel: int) -> Counter[str | None]:
    """Number of cases that name each modality; None counts those that name none."""
    return Counter(one.modalities[channel] if channel < len(one.modalities) else None for one in statistics)


def _looks_like_ct(statistics: Sequence[CaseStatistics], channel: int) -> bool:
    return resembles_hounsfield([one.channels[channel].hounsfield for one in statistics])
