"""The attributes that separate frames of one series that belong to different volumes.

Classic images and functional groups have different names for the same thing, and vendors private ones for b-values;
here each has one name.
"""

from collections.abc import Sequence

from pydicom import Dataset

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.attributes import items, number_if_sound, numbers, private_value, text, texts

Value = float | str | tuple[float, ...]

CONTENT = (
    *("StackID", "FrameType", "ComplexImageComponent", "ConvolutionKernel", "KVP", "EchoTime", "InversionTime"),
    *("FlipAngle", "DiffusionBValue", "DiffusionGradientOrientation", "TemporalPosition", "CardiacPhase"),
)
"""One volume has one value of each of these, unless it differs from slice to slice anyway."""
OCCASION = (
    "AcquisitionNumber",
    "TriggerTime",
    "ReferenceTime",
    "AcquisitionTime",
    "ContentTime",
    "DimensionIndexValues",
)
"""A volume may be acquired in parts, so that these count only where slices cannot be one volume; the surest first."""

_NUMBERS = {
    "KVP": ("KVP",),
    "EchoTime": ("EchoTime", "EffectiveEchoTime"),
    "InversionTime": ("InversionTime",),
    "FlipAngle": ("FlipAngle",),
    "DiffusionBValue": ("DiffusionBValue",),
    "TemporalPosition": ("TemporalPositionIdentifier", "TemporalPositionIndex", "TemporalPositionTimeOffset"),
    "CardiacPhase": ("NominalPercentageOfCardiacPhase",),
    "AcquisitionNumber": ("AcquisitionNumber", "FrameAcquisitionNumber"),
    "TriggerTime": ("TriggerTime", "NominalCardiacTriggerDelayTime"),
    "ReferenceTime": ("FrameReferenceTime",),
}
_NUMBER_LISTS = ("InversionTimes", "DiffusionGradientOrientation", "DimensionIndexValues")
_TEXTS = {
    "StackID": ("StackID",),
    "ComplexImageComponent": ("ComplexImageComponent",),
    "ReferenceTime": ("FrameReferenceDateTime",),
    "AcquisitionTime": ("AcquisitionDateTime", "FrameAcquisitionDateTime", "AcquisitionTime"),
    "ContentTime": ("ContentTime",),
}
_B_VALUES = ((0x0019, "SIEMENS MR HEADER", 0x0C), (0x0043, "GEMS_PARM_01", 0x39), (0x2001, "Philips Imaging DD 001", 3))
_GE_OFFSET = 1e9  # newer software adds it to b-values


def distinctions(frame: Dataset) -> dict[str, Value]:
    """The value of each of `CONTENT` and `OCCASION` that a frame has.

    Args:
        frame: Attributes of the frame; those that cannot be read are as good as absent.
    """
    found: dict[str, Value] = {}
    for name, keywords in _NUMBERS.items():
        if (number := _first_number(frame, keywords)) is not None:
            found[name] = number
    for name, keywords in _TEXTS.items():
        if written := next(filter(None, (text(frame, keyword) for keyword in keywords)), ""):
            found.setdefault(name, written)
    for name, parts in (
        ("FrameType", (texts(frame, "FrameType") or texts(frame, "ImageType"))[2:]),
        ("ConvolutionKernel", texts(frame, "ConvolutionKernel")),
    ):
        if parts:
            found[name] = " ".join(parts)
    directions = items(frame, "DiffusionGradientDirectionSequence")[:1]
    for data in (frame, *directions):
        for keyword in _NUMBER_LISTS:
            if listed := _sound_numbers(data, keyword):
                found.setdefault(keyword.replace("InversionTimes", "InversionTime"), listed)
    if "DiffusionBValue" not in found and (b_value := _private_b_value(frame)) is not None:
        found["DiffusionBValue"] = b_value
    return found


def _first_number(frame: Dataset, keywords: Sequence[str]) -> float | None:
    read = (number_if_sound(frame, keyword) for keyword in keywords)
    return next((number for number in read if number is not None), None)


def _sound_numbers(data: Dataset, keyword: str) -> tuple[float, ...]:
    try:
        return tuple(round(one, 4) for one in numbers(data, keyword))
    except ImageFileError:
        return ()


def _private_b_value(frame: Dataset) -> float | None:
    for group, creator, offset in _B_VALUES:
        written = private_value(frame, group, creator, offset)
        if written is not None:
            try:
                value = float(written if isinstance(written, int | float | str) else written[0])
            except (TypeError, ValueError, IndexError):
                return None
            return value - _GE_OFFSET if value >= _GE_OFFSET else value
    return None
